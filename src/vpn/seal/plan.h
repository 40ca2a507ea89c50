/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What has to be done so that the kernel is as the wish and the seal's own rules say. Pure: the
 * same model and wish give the same list, and after the list was done the next one is empty.
 * Closing comes first: a list that breaks off in the middle leaves less open, never more.
 */
#pragma once

#include "vpn/seal/model.h"

enum seal_op_kind {
    OP_RULE_ADD,
    OP_RULE_DEL,
    OP_PATH_ADD,
    OP_PATH_DEL,
    OP_ELEMENT_ADD,
    OP_ELEMENT_DEL,
    OP_CHAIN_ADD,
    OP_CHAIN_DEL,
};

struct seal_op {
    enum seal_op_kind kind;
    enum seal_layer layer;
    union {
        struct rule rule;
        struct path path;
        struct seal_element element;
        struct nft_device_chain chain;
    };
};

struct seal_config {
    unsigned layers; /* LAYERS_ALL but for tests */
    uint32_t uid;    /* of the client */
};

/* Adds struct seal_op to *ret. 0 or -ENOMEM. */
int plan_make(const struct seal_model *m, const struct wish *w, const struct seal_config *config,
              struct items *ret);

#define SEAL_OP_TEXT 200
/* One op in words, for logs, --json and check. */
const char *plan_describe(const struct seal_op *op, const struct seal_model *m,
                          char buf[static SEAL_OP_TEXT]);
