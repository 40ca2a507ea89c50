/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/client/wireguard_pace.h"

#define MS 1000ull
#define S  1000000ull

#define ASK_FIRST     (30 * MS)
#define ASK_MOST      (250 * MS)
#define ASK_LATER     (1 * S)
#define ASK_PATIENCE  (12 * S)
#define LOOK_IDLE     (30 * S)
#define LOOK_USED     (15 * S)
#define LOOK_DOUBT    (2 * S)
#define DOUBT_TIME    (20 * S) /* keepalive after 10 s and new handshake after 5 s more, and room */
#define SILENT_TIME   (10 * S)
#define KEEPALIVE_LEN 32 /* header and tag of an empty data message */
#define QUESTION_LEN  148 /* a handshake initiation */
#define QUESTIONS     7   /* each 5 s, between two looks when idle */

static void enter(struct pace *p, enum pace_state state, uint64_t now, uint64_t interval)
{
    p->state = state;
    p->begun = now;
    p->interval = interval;
}

static void take(struct pace *p, uint64_t now, const struct pace_sample *s)
{
    p->last = *s;
    p->heard = now;
    p->tx_heard = s->tx;
}

void pace_begin(struct pace *p, uint64_t now, unsigned keepalive, unsigned round)
{
    *p = (struct pace){.keepalive = keepalive, .round = round, .heard = now};
    enter(p, PACE_ASKING, now, ASK_FIRST);
}

void pace_adopt(struct pace *p, uint64_t now, unsigned keepalive, const struct pace_sample *s)
{
    *p = (struct pace){.keepalive = keepalive};
    take(p, now, s);
    enter(p, PACE_GOOD, now, LOOK_USED);
}

static enum pace_verdict look_asking(struct pace *p, uint64_t now, const struct pace_sample *s)
{
    const uint64_t most = p->round > 0 ? ASK_LATER : ASK_MOST;

    if (s->handshake_ns != 0) {
        take(p, now, s);
        enter(p, PACE_GOOD, now, LOOK_USED);
        return PACE_UP;
    }
    p->interval = p->interval + p->interval / 2 < most ? p->interval + p->interval / 2 : most;
    if (now - p->begun < ASK_PATIENCE)
        return PACE_NOTHING;
    p->begun = now; /* a caller who does not move on hears it again */
    return PACE_NEXT;
}

/*
 * Did anything come in that answers? A server that does not hear us asks for a handshake again and
 * again: these bytes are no answer. (That data has exactly their length, ten looks long, is luck
 * beyond reckoning.)
 */
static bool is_answered(const struct pace *p, const struct pace_sample *s)
{
    const uint64_t got = s->rx - p->last.rx;

    if (s->handshake_ns != p->last.handshake_ns)
        return true;
    if (s->tx < p->tx_heard || s->rx < p->last.rx)
        return true; /* somebody set the counters back */
    return got % QUESTION_LEN != 0 || got > QUESTIONS * QUESTION_LEN;
}

/* Did more go out since the last answer than keepalives can be? */
static bool is_unanswered(const struct pace *p, uint64_t now, const struct pace_sample *s)
{
    uint64_t sent = s->tx - p->tx_heard, keepalives = 0;

    if (p->keepalive > 0)
        keepalives = (now - p->heard) / (p->keepalive * S) + 2;
    return sent > keepalives * KEEPALIVE_LEN;
}

enum pace_verdict pace_look(struct pace *p, uint64_t now, const struct pace_sample *s)
{
    const bool moved = s->tx != p->last.tx || s->rx != p->last.rx;
    const bool answered = is_answered(p, s);
    const bool silent = p->state == PACE_SILENT;

    if (p->state == PACE_ASKING)
        return look_asking(p, now, s);
    p->last = *s;
    if (answered) {
        take(p, now, s);
        enter(p, PACE_GOOD, now, LOOK_USED);
        return silent ? PACE_BACK : PACE_NOTHING;
    }
    if (p->state == PACE_GOOD) {
        p->interval = moved ? LOOK_USED : LOOK_IDLE;
        if (is_unanswered(p, now, s))
            enter(p, PACE_DOUBTFUL, now, LOOK_DOUBT);
    } else if (p->state == PACE_DOUBTFUL && now - p->begun >= DOUBT_TIME) {
        enter(p, PACE_SILENT, now, LOOK_DOUBT);
        return PACE_STALLED;
    } else if (silent && now - p->begun >= SILENT_TIME) {
        p->begun = now;
        return PACE_NEXT;
    }
    return PACE_NOTHING;
}

uint64_t pace_interval(const struct pace *p)
{
    return p->interval;
}

uint64_t pace_accuracy(const struct pace *p)
{
    return p->interval / 10;
}
