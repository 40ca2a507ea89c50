/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is to be done in dom0 for this VPN qube, as a page of text and commands to copy: give it its
 * service and net qube, let other qubes use it, close it to its servers with the platform's own
 * firewall (a fence in the net qube below, beside the seal). Pure but for the locale. Commands hold
 * nothing from outside but names and addresses of a strict alphabet: whoever pastes them into dom0
 * runs what the text says. Commands as in doc/setup-vpn.md and qvm-firewall(1) of Qubes 4.2, 4.3.
 */
#pragma once

#include <jansson.h>
#include <stddef.h>

struct guide_facts {
    const char *qube;        /* this qube's name; NULL or no such name: "sys-vpn" */
    const char *profile;     /* "" or NULL: none yet */
    const json_t *endpoints; /* of the profile: strings HOST:PORT/PROTOCOL as the bus has
                                them (DescribeProfile, setup_view); NULL */
};

struct guide_part {
    char *title;    /* translated, cleaned */
    char *text;     /* what it is for; sentences */
    char *commands; /* lines, each with its end; "" where there is nothing to run */
};

struct guide {
    struct guide_part *parts;
    size_t n;
};

/* -ENOMEM. */
int guide_new(struct guide **ret, const struct guide_facts *facts);
struct guide *guide_free(struct guide *g);
void guide_freep(struct guide **g);
