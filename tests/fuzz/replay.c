/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Runs a fuzz target once over each file named, or in each directory named. No fuzzer needed. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void closefp(FILE **f)
{
    if (*f)
        fclose(*f);
}

static void closedirp(DIR **d)
{
    if (*d)
        closedir(*d);
}

static int replay_file(const char *path, unsigned *count)
{
    _cleanup_(closefp) FILE *f = fopen(path, "re");
    _cleanup_(freep) uint8_t *data = NULL;
    struct stat st;
    size_t size;

    if (!f || fstat(fileno(f), &st) < 0)
        return -errno;
    size = (size_t)st.st_size;
    data = malloc(size > 0 ? size : 1); /* its own allocation, so that ASan sees the end */
    if (!data)
        return -ENOMEM;
    if (fread(data, 1, size, f) != size)
        return -EIO;
    (void)LLVMFuzzerTestOneInput(data, size);
    (*count)++;
    return 0;
}

static int replay_directory(const char *path, unsigned *count)
{
    _cleanup_(closedirp) DIR *dir = opendir(path);
    struct dirent *e;

    if (!dir)
        return -errno;
    while ((e = readdir(dir))) {
        _cleanup_(freep) char *file = NULL;
        int r;

        if (e->d_name[0] == '.')
            continue;
        if (asprintf(&file, "%s/%s", path, e->d_name) < 0)
            return -ENOMEM;
        r = replay_file(file, count);
        if (r < 0) {
            fprintf(stderr, "%s: %s\n", file, strerror(-r));
            return r;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    unsigned count = 0;

    for (int i = 1; i < argc; i++) {
        struct stat st;
        int r = stat(argv[i], &st) < 0 ? -errno : 0;

        if (r == 0)
            r = S_ISDIR(st.st_mode) ? replay_directory(argv[i], &count)
                                    : replay_file(argv[i], &count);
        if (r < 0) {
            fprintf(stderr, "%s: %s\n", argv[i], strerror(-r));
            return 1;
        }
    }
    printf("%u inputs\n", count);
    return count > 0 ? 0 : 1; /* an empty corpus tests nothing */
}
