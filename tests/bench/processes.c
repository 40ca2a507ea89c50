/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The baseline of a change: what it costs to change the rules by starting nft, as often as a line
 * of the input says so. One process for each line of standard input, one after the other, COUNT
 * times; each line is the argument of one nft. Prints nanoseconds of each time.
 *
 *   bench-processes NFT COUNT PAUSE_MS < LINES
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "client.h"

#define MAX_LINES 16

extern char **environ;

static void run(char *program, char *line)
{
    char *arguments[] = {program, line, NULL};
    posix_spawn_file_actions_t quiet;
    int status;
    pid_t pid;

    (void)posix_spawn_file_actions_init(&quiet);
    (void)posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    errno = posix_spawn(&pid, program, &quiet, NULL, arguments, environ);
    if (errno != 0 || waitpid(pid, &status, 0) != pid || status != 0)
        bench_die(line);
    (void)posix_spawn_file_actions_destroy(&quiet);
}

int main(int argc, char **argv)
{
    static char lines[MAX_LINES][512];
    size_t n = 0;
    long count, pause_ms;

    if (argc != 4) {
        (void)fputs("usage: bench-processes NFT COUNT PAUSE_MS < LINES\n", stderr);
        return 2;
    }
    count = bench_number(argv[2], 1, 1000000);
    pause_ms = bench_number(argv[3], 0, 60000);
    while (n < MAX_LINES && fgets(lines[n], sizeof(lines[n]), stdin) != NULL) {
        lines[n][strcspn(lines[n], "\n")] = '\0';
        n++;
    }
    for (long c = 0; c < count; c++) {
        int64_t begin = bench_now();

        for (size_t i = 0; i < n; i++)
            run(argv[1], lines[i]);
        (void)printf("%lld\n", (long long)(bench_now() - begin));
        bench_sleep(pause_ms * 1000000);
    }
    return 0;
}
