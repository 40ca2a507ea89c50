/* SPDX-License-Identifier: GPL-2.0-or-later */
/* In place of application.c where there is no toolkit. */
#include <libintl.h>
#include <stdio.h>

#include "desktop/configurator/application.h"

bool application_has_page(const char *name)
{
    (void)name;
    return true;
}

int application_run(const char *socket, const char *page, char **files)
{
    (void)socket;
    (void)page;
    (void)files;
    (void)fputs(gettext("qubes-vpn-configurator: it was built without a window.\n"
                        "Next: qubes-vpn-configurator --terminal\n"),
                stderr);
    return 1;
}
