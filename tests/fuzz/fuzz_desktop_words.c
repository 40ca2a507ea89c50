/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text from outside on its way to a person. The first byte is the size of the place. What comes out
 * is valid UTF-8 on one line, without controls, and no second cleaning changes it; what is handed to
 * a daemon that reads markup holds no tag, and no half of an escape.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "desktop/notifier/popup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds)
        abort();
}

static void check_clean(const char *text)
{
    static const char *const bad[] = {"\xe2\x80\xae", "\xe2\x80\x8b", "\xe2\x81\xa6", "\xef\xbb\xbf",
                                      "\xe2\x80\xa8", "\xc2\x85",     "  "};

    for (const char *c = text; *c != '\0'; c++)
        require((unsigned char)*c >= 0x20 && *c != 0x7f);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        require(strstr(text, bad[i]) == NULL);
    require(text[0] != ' ');
}

static void check_markup(const char *text)
{
    require(strpbrk(text, "<>") == NULL);
    for (const char *c = strchr(text, '&'); c != NULL; c = strchr(c + 1, '&'))
        require(strncmp(c, "&amp;", 5) == 0 || strncmp(c, "&lt;", 4) == 0 ||
                strncmp(c, "&gt;", 4) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *outside = size > 0 ? malloc(size) : NULL;
    size_t room = size > 0 ? 1 + (size_t)data[0] : 0;
    char *clean = malloc(room + 1), *again = malloc(room + 1), *markup = malloc(room + 1);
    json_t *value;

    if (outside == NULL || clean == NULL || again == NULL || markup == NULL)
        goto out;
    memcpy(outside, data + 1, size - 1);
    outside[size - 1] = '\0';
    (void)words_clean(outside, clean, room);
    require(strlen(clean) < room);
    check_clean(clean);
    require(strcmp(words_clean(clean, again, room), clean) == 0);
    value = json_string(clean); /* NULL: no UTF-8 */
    require(value != NULL);
    json_decref(value);
    (void)popup_text(clean, true, markup, room);
    require(strlen(markup) < room);
    check_markup(markup);
out:
    free(outside);
    free(clean);
    free(again);
    free(markup);
    return 0;
}
