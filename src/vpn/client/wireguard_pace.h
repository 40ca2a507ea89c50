/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the counters of a WireGuard device say about the server, and when to look at them again.
 * WireGuard notifies nobody; a look costs one wake-up with the kernel and two with wireguard-go,
 * whose answer comes later, so there are as few as the question needs.
 * Pure: the caller brings the time (microseconds, any clock that does not jump).
 *
 * ASKING: no handshake since pace_begin(). The peers were set anew with a keepalive, which makes
 * WireGuard ask at once and again every 5 s, without any traffic of a qube. Looks come after 30 ms,
 * then ever more rarely up to one each 0.25 s, in later rounds each second. After 12 s (three
 * questions) PACE_NEXT: the next address is worth a try.
 *
 * UP: looks each 30 s while no counter moves (2 looks a minute), each 15 s in use (4 a minute).
 * A healthy peer answers: data is acknowledged by a keepalive after 10 s at the latest, and
 * WireGuard itself asks for a new handshake after 15 s of silence (whitepaper 6.5, 6.6). So bytes
 * out and none in is the sign; an old handshake alone is none, an idle tunnel has no newer one.
 * Sent keepalives are not answered, 32 bytes each: they do not count. Nor do handshake initiations
 * of a server that hears nothing of us, 148 bytes each: they are questions. Once bytes are without
 * an answer, looks come each 2 s, and after 20 s it is PACE_STALLED; bytes in at any time are
 * PACE_BACK; 10 s more of silence are PACE_NEXT.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum pace_verdict {
    PACE_NOTHING,
    PACE_UP,      /* the first handshake since pace_begin() */
    PACE_STALLED, /* the server is silent */
    PACE_BACK,    /* it is not any more */
    PACE_NEXT,    /* give it up; the caller tries another address by pace_begin() */
};

enum pace_state { PACE_ASKING, PACE_GOOD, PACE_DOUBTFUL, PACE_SILENT };

/* All peers together. */
struct pace_sample {
    uint64_t handshake_ns; /* latest; 0: none */
    uint64_t rx, tx;       /* bytes */
};

struct pace {
    enum pace_state state;
    unsigned keepalive; /* seconds between keepalives of ours, 0: none */
    unsigned round;     /* of asking: how often the first address was begun with */
    uint64_t begun;     /* when the state began */
    uint64_t interval;  /* until the next look */
    uint64_t heard;     /* when rx last grew */
    struct pace_sample last;
    uint64_t tx_heard; /* tx at that time */
};

/* Peers were set anew, their counters are zero. keepalive: what they get once up. */
void pace_begin(struct pace *p, uint64_t now, unsigned keepalive, unsigned round);
/* A device that has its handshake already: adopted. */
void pace_adopt(struct pace *p, uint64_t now, unsigned keepalive, const struct pace_sample *s);
enum pace_verdict pace_look(struct pace *p, uint64_t now, const struct pace_sample *s);
/* Microseconds until the next look, after one of the above. */
uint64_t pace_interval(const struct pace *p);
/* How late a look may come without harm. */
uint64_t pace_accuracy(const struct pace *p);
