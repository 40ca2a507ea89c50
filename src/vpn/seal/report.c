/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vpn/seal/report.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"

#define MISSING_SHOWN 64

static const struct {
    enum seal_layer layer;
    const char *key, *title;
} layers[] = {
    {LAYER_ROUTES, "routes", "routing (nothing but carriers sees an uplink)"},
    {LAYER_INET, "inet", "firewall (table inet qubes-vpn)"},
    {LAYER_EGRESS, "egress", "gates on the uplinks (table netdev qubes-vpn)"},
};

static json_t *addr_json(const struct addr *a)
{
    char text[ADDR_STR_MAX];

    return json_string(addr_format(a, text));
}

static json_t *wish_json(const struct wish *w)
{
    json_t *carriers = json_array(), *dns = json_array();
    char text[ADDR_STR_MAX];

    for (size_t i = 0; i < w->n_carriers; i++)
        (void)json_array_append_new(
            carriers, json_pack("{s:s, s:s, s:i, s:s}", "protocol",
                                w->carriers[i].protocol == IPPROTO_TCP ? "tcp" : "udp", "address",
                                addr_format(&w->carriers[i].addr, text), "port",
                                (int)w->carriers[i].port, "by",
                                w->carriers[i].marked ? "mark" : "user"));
    for (size_t i = 0; i < w->n_dns; i++)
        (void)json_array_append_new(dns, addr_json(&w->dns[i]));
    return json_pack("{s:o, s:s, s:i, s:o, s:b, s:b}", "carriers", carriers, "tunnel", w->tunnel,
                     "mtu", (int)w->mtu, "dns", dns, "own_lookups", (int)w->lookups,
                     "updates_proxy", (int)w->proxy);
}

static json_t *uplinks_json(const struct seal_model *m)
{
    json_t *list = json_array();

    for (size_t i = 0; i < m->links.n; i++) {
        const struct rt_link *link = &ITEMS(&m->links, struct rt_link)[i];
        char name[IFNAMSIZ * 4];

        if (link_kind(link) == LINK_UPLINK)
            (void)json_array_append_new(
                list, json_string(str_escape(str_from(link->name), name, sizeof(name))));
    }
    return list;
}

static json_t *layers_json(const struct seal *s)
{
    json_t *object = json_object();

    for (size_t i = 0; i < ARRAY_SIZE(layers); i++) {
        bool nft = layers[i].layer != LAYER_ROUTES;
        json_t *layer = json_pack(
            "{s:b}", "whole", (s->config.layers & ~s->broken & layers[i].layer) != 0);

        if (nft)
            (void)json_object_set_new(layer, "owned",
                                      json_boolean((s->model.owned & layers[i].layer) != 0));
        (void)json_object_set_new(object, layers[i].key, layer);
    }
    return object;
}

static json_t *missing_json(const struct seal *s, const struct items *ops, const char *wrong_switch)
{
    json_t *list = json_array();
    char text[SEAL_OP_TEXT];

    if ((LAYER_INET & ~s->model.loaded) != 0)
        (void)json_array_append_new(
            list, json_string("missing or changed: rules of table inet qubes-vpn"));
    if ((LAYER_EGRESS & ~s->model.loaded) != 0)
        (void)json_array_append_new(
            list, json_string("missing or changed: rules of table netdev qubes-vpn"));
    for (size_t i = 0; i < ops->n && i < MISSING_SHOWN; i++)
        (void)json_array_append_new(
            list, json_string(plan_describe(&ITEMS(ops, struct seal_op)[i], &s->model, text)));
    if (ops->n > MISSING_SHOWN)
        (void)json_array_append_new(
            list, json_sprintf("and %zu more", ops->n - MISSING_SHOWN));
    if (wrong_switch[0] != '\0')
        (void)json_array_append_new(list, json_string(wrong_switch));
    return list;
}

json_t *report_json(const struct seal *s, const struct items *ops, const char *wrong_switch)
{
    json_t *missing = missing_json(s, ops, wrong_switch);
    bool sealed = json_array_size(missing) == 0 && s->config.layers == LAYERS_ALL;

    return json_pack("{s:b, s:o, s:o, s:o, s:o}", "sealed", (int)sealed, "layers", layers_json(s),
                     "uplinks", uplinks_json(&s->model), "open", wish_json(&s->wish), "missing",
                     missing);
}

static void print_text(const json_t *report, bool sealed)
{
    const json_t *all = json_object_get(report, "layers"),
                 *missing = json_object_get(report, "missing");
    const json_t *open = json_object_get(report, "open");
    const char *tunnel = json_string_value(json_object_get(open, "tunnel"));

    puts(sealed ? "Sealed: nothing leaves by an uplink but the VPN's own connection."
                : "NOT SEALED as it should be. Run \"qubes-vpn-forwarding on\".");
    for (size_t i = 0; i < ARRAY_SIZE(layers); i++) {
        const json_t *layer = json_object_get(all, layers[i].key), *owned;

        owned = json_object_get(layer, "owned");
        printf("  %-8s %s%s\n", json_is_true(json_object_get(layer, "whole")) ? "whole" : "BROKEN",
               layers[i].title, owned == NULL || json_is_true(owned) ? "" : ", not owned");
    }
    printf("  qubes    %s%s\n",
           tunnel != NULL && tunnel[0] != '\0' ? "may go into tunnel " : "go nowhere",
           tunnel != NULL ? tunnel : "");
    for (size_t i = 0; i < json_array_size(missing); i++)
        printf("  - %s\n", json_string_value(json_array_get(missing, i)));
}

int report_print(const json_t *report, bool json)
{
    bool sealed = json_is_true(json_object_get(report, "sealed"));

    if (json) {
        (void)json_dumpf(report, stdout, JSON_INDENT(2));
        (void)putchar('\n');
    } else {
        print_text(report, sealed);
    }
    return sealed ? 0 : 1;
}
