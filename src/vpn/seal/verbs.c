/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/seal/verbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "vpn/seal/report.h"
#include "vpn/seal/seal.h"
#include "vpn/seal/switches.h"

#define ANSWER_MAX 65536

/* 1: the owner answered, *ret is its text after "ok\n"; 0: nobody there; -errno: no good answer. */
static int ask(const char *path, enum request_kind kind, char **ret)
{
    _cleanup_(closep) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    _cleanup_(freep) char *answer = calloc(1, ANSWER_MAX + 1);
    const struct timeval limit = {.tv_sec = 5};
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char request[64];
    int len = request_format(kind, NULL, request, sizeof(request));
    ssize_t n;

    if (fd < 0 || answer == NULL || len < 0 || strlen(path) >= sizeof(name.sun_path))
        return -ENOMEM;
    memcpy(name.sun_path, path, strlen(path) + 1);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (connect(fd, (struct sockaddr *)&name, sizeof(name)) < 0)
        return errno == ENOENT || errno == ECONNREFUSED ? 0 : -errno;
    if (send(fd, request, (size_t)len, MSG_NOSIGNAL) != len)
        return -errno;
    n = recv(fd, answer, ANSWER_MAX, 0);
    if (n <= 0)
        return n < 0 ? -errno : -ECONNRESET;
    answer[n] = '\0';
    if (strncmp(answer, "ok\n", 3) != 0) {
        char words[600];

        fprintf(stderr, "qubes-vpn-forwarding: the seal's owner says: %s\n",
                str_escape(str_trim((struct str){answer, strcspn(answer, "\n")}), words,
                           sizeof(words)));
        return -EREMOTEIO;
    }
    memmove(answer, answer + 3, strlen(answer + 3) + 1);
    *ret = TAKE_PTR(answer);
    return 1;
}

static int arm_here(const struct owner_config *config, bool forget_wish)
{
    _cleanup_(seal_close) struct seal s = {0};
    int r = seal_open(&s, &config->seal, config->nft_program, -1);

    s.adopted = forget_wish;
    if (r == 0)
        r = seal_pass(&s);
    if (r == 0 && s.armed)
        return 0;
    if (r == 0 && s.broken == 0 && config->seal.layers != LAYERS_ALL)
        return 3;
    log_error("Cannot seal (%s): forwarding %s. Needs root, and nft at %s",
              seal_strerror(&s, r), switches_close_forwarding(), config->nft_program);
    return 1;
}

int verb_arm(const struct owner_config *config, bool forget_wish)
{
    _cleanup_(freep) char *answer = NULL;
    int r = ask(config->socket, forget_wish ? REQUEST_BLACKHOLE : REQUEST_ON, &answer);

    if (r == 1)
        return 0;
    if (r == 0)
        return arm_here(config, forget_wish);
    if (r != -EREMOTEIO)
        log_error("The seal's owner does not answer (%s); what is armed stays", strerror(-r));
    return 1;
}

/* From the kernel itself: the owner's word is not needed. */
int verb_check(const struct owner_config *config, bool json)
{
    _cleanup_(items_free) struct items ops = {0};
    _cleanup_(seal_close) struct seal s = {0};
    char wrong[SWITCH_TEXT];
    json_t *report = NULL;
    int r = seal_open(&s, &config->seal, config->nft_program, -1);

    if (r == 0)
        r = seal_look(&s, &ops, wrong);
    if (r == 0)
        report = report_json(&s, &ops, wrong);
    if (report == NULL) {
        log_error(
            "Cannot read the kernel (%s): whether the qube is sealed is not known. Needs root",
            strerror(r < 0 ? -r : ENOMEM));
        return 1;
    }
    r = report_print(report, json);
    json_decref(report);
    return s.broken == 0 && config->seal.layers != LAYERS_ALL ? 3 : r;
}
