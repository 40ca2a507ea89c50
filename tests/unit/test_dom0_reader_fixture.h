/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A reader and its tree, a stand-in qubesd that knows some qubes, and what the reader told. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "dom0/tree/reader.h"
#include "test_adminapi_fake.h"

#define VMS_MAX 600

struct vm {
    char name[QUBE_NAME_MAX];
    const char *klass, *state, *properties;
    const char *features[12]; /* name, value, ...; NULL at the end */
    bool empty;               /* 4.2: nothing is answered about it */
};

struct fixture {
    sd_event *event;
    struct fake fake;
    struct admin_client *client;
    struct tree *tree;
    struct reader *reader;
    struct vm vms[VMS_MAX];
    size_t n_vms;
    bool not_found; /* a qube that is not known: an exception, else nothing (4.2) */
    const char *hold; /* headers that begin so are not answered */
    void (*asked)(struct fake_conn *c); /* before an answer */

    unsigned wholes, ones, fails, progresses, gets;
    int error;
    size_t done, all;
    char one_name[QUBE_NAME_MAX];
    bool one_gone;
    bool read_in_callback;
};

extern struct fixture t;
extern const char plain[]; /* properties of a qube of which nothing else is said */

#define RUN_UNTIL(condition) FAKE_RUN_UNTIL(t.event, condition)

int setup(void **state); /* dom0, sys-net (running), web (halted, with features) */
int teardown(void **state);
void start(uint64_t timeout_usec);

struct vm *vm_add(const char *name, const char *state);
struct vm *vm_find(const char *name, size_t len);
void vm_remove(const char *name);

struct qube *qube(const char *name); /* of the tree; must be there */
void read_all(void);                 /* and waits for the end */
void read_one(const char *name);
