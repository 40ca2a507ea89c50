/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netlink/attr.h"

#include <errno.h>
#include <string.h>

#define ATTR_HEADER  4
#define NLMSG_HEADER sizeof(struct nlmsghdr) /* 16 bytes, aligned as it is */

int attr_next(struct cursor *list, uint16_t *ret_type, struct attr *ret)
{
    uint16_t head[2];
    const uint8_t *payload;
    size_t len, pad;

    if (list->left == 0)
        return 0;
    cursor_copy(list, head, sizeof(head));
    if (!cursor_ok(list) || head[0] < ATTR_HEADER)
        return -EBADMSG;

    len = (size_t)head[0] - ATTR_HEADER;
    payload = cursor_take(list, len);
    if (payload == NULL)
        return -EBADMSG;
    /* the last attribute of a list may come without its padding */
    pad = (4 - len % 4) % 4;
    (void)cursor_take(list, pad < list->left ? pad : list->left);

    *ret_type = head[1] & (uint16_t)NLA_TYPE_MASK;
    *ret = (struct attr){.p = payload, .len = len};
    return 1;
}

int attr_parse(struct attr list, const struct attr_rule *policy, size_t count, struct attr *ret)
{
    struct cursor check = cursor_from(list.p, list.len);
    struct cursor fill = check;
    struct attr a;
    uint16_t type;
    int r;

    while ((r = attr_next(&check, &type, &a)) > 0) {
        if (type >= count || policy[type].max == 0)
            continue;
        if (a.len < policy[type].min || a.len > policy[type].max)
            return -EBADMSG;
    }
    if (r < 0)
        return r;

    memset(ret, 0, count * sizeof(*ret));
    while (attr_next(&fill, &type, &a) > 0)
        if (type < count && policy[type].max != 0)
            ret[type] = a;
    return 0;
}

int attr_parse_message(const struct nlmsghdr *nlh, void *ret_header, size_t header_size,
                       const struct attr_rule *policy, size_t count, struct attr *ret)
{
    const size_t begin = NLMSG_HEADER + (header_size + 3) / 4 * 4;
    const uint8_t *bytes = (const uint8_t *)nlh;
    int r;

    if (nlh->nlmsg_len < begin)
        return -EBADMSG;
    r = attr_parse((struct attr){.p = bytes + begin, .len = nlh->nlmsg_len - begin}, policy, count,
                   ret);
    if (r < 0)
        return r;
    memcpy(ret_header, bytes + NLMSG_HEADER, header_size);
    return 0;
}

uint8_t attr_u8(struct attr a)
{
    struct cursor c = cursor_from(a.p, a.len);

    return cursor_u8(&c);
}

uint16_t attr_u16be(struct attr a)
{
    struct cursor c = cursor_from(a.p, a.len);

    return cursor_u16be(&c);
}

uint32_t attr_u32(struct attr a)
{
    struct cursor c = cursor_from(a.p, a.len);

    return cursor_u32ne(&c);
}

uint32_t attr_u32be(struct attr a)
{
    struct cursor c = cursor_from(a.p, a.len);

    return cursor_u32be(&c);
}

uint64_t attr_u64be(struct attr a)
{
    struct cursor c = cursor_from(a.p, a.len);
    uint64_t high = cursor_u32be(&c), low = cursor_u32be(&c);

    return cursor_ok(&c) ? high << 32 | low : 0;
}

int attr_name(struct attr a, char *ret, size_t size)
{
    size_t len;

    if (a.p == NULL)
        return -EBADMSG;
    len = strnlen((const char *)a.p, a.len);
    if (len == 0 || len >= size || len + 1 < a.len)
        return -EBADMSG;
    memcpy(ret, a.p, len);
    ret[len] = '\0';
    return 0;
}

bool attr_is_name(struct attr a, const char *name)
{
    size_t len = strlen(name);

    return a.p != NULL && strnlen((const char *)a.p, a.len) == len && memcmp(a.p, name, len) == 0;
}
