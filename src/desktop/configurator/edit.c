/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `--edit`: a profile in the person's own editor, on a copy in memory. Profiles are kept where only
 * the supervisor can read them, and no call of its object gives one away; so the copy is made, and
 * brought back, with sudo, which asks the person, or says no. Not as root but as the folder's
 * owner: root would follow whatever a supervisor that was taken over put there. The supervisor
 * judges the text before it is brought back, and takes it when it is whole there.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory_file.h"
#include "desktop/configurator/terminal_private.h"
#include "vpn/profile/profile.h"

#define FOLDER    "/rw/config/qubes-vpn"
#define TAKEN_US  UINT64_C(10000000)
#define STEP_US   UINT64_C(100000)
#define WORDS_MAX 10

#define REMOVE_NS    100000000L
#define REMOVE_TRIES 50

struct edit {
    struct terminal *t;
    char name[PROFILE_NAME_MAX];
    char path[512];   /* of the profile */
    char folder[256]; /* of the copy; "": none */
    char copy[512];
    uid_t owner; /* of the profiles' folder */
    gid_t group;
    pid_t guard; /* removes the copy; 0: none */
    int leash;   /* when this is closed */
};

/* ---- other programs ---- */

/* Its exit status, or -errno. in, out: -1 for ours. */
static int run(const char *const *words, int in, int out)
{
    posix_spawn_file_actions_t actions;
    const union { /* the library reads them only */
        const char *const *ours;
        char *const *theirs;
    } argv = {words};
    int status = 0, r;
    pid_t pid;

    (void)fflush(stdout);
    if (posix_spawn_file_actions_init(&actions) != 0)
        return -ENOMEM;
    r = in >= 0 ? posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO) : 0;
    if (r == 0 && out >= 0)
        r = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    if (r == 0)
        r = posix_spawnp(&pid, words[0], &actions, NULL, argv.theirs, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (r != 0)
        return -r;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return -errno;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -EINTR;
}

/* With the rights of the folder's owner: ours, if we are it. */
static int run_entitled(const struct edit *e, const char *const *words, int in, int out)
{
    char user[32], group[32], sudo_user[32];
    const char *const by_root[] = {"setpriv", user, group, "--clear-groups", "--", NULL},
                      *const by_others[] = {"sudo", "-u", sudo_user, "--", NULL},
                      *const *prefix = geteuid() == 0 ? by_root : by_others;
    const char *all[2 * WORDS_MAX + 1] = {NULL};
    size_t n = 0;

    if (geteuid() == e->owner)
        return run(words, in, out);
    (void)snprintf(user, sizeof(user), "--reuid=%u", (unsigned)e->owner);
    (void)snprintf(group, sizeof(group), "--regid=%u", (unsigned)e->group);
    (void)snprintf(sudo_user, sizeof(sudo_user), "#%u", (unsigned)e->owner);
    for (size_t i = 0; prefix[i] != NULL; i++)
        all[n++] = prefix[i];
    for (size_t i = 0; i < WORDS_MAX && words[i] != NULL; i++)
        all[n++] = words[i];
    return run(all, in, out);
}

/* ---- the copy ---- */

/* Also what the editor left there, and what it still writes while it ends. */
static void remove_folder(const char *folder)
{
    const char *const words[] = {"rm", "-rf", "--", folder, NULL};
    const struct timespec pause = {.tv_nsec = REMOVE_NS};

    for (unsigned i = 0; i < REMOVE_TRIES; i++) {
        (void)run(words, -1, -1);
        if (access(folder, F_OK) < 0)
            break;
        (void)nanosleep(&pause, NULL);
    }
}

/* Lives until the leash is let go, by us or by the kernel: a closed terminal, a signal. */
static void be_guard(const char *folder, int leash)
{
    int nowhere = open("/dev/null", O_RDWR | O_CLOEXEC);
    char c;

    (void)setsid();
    if (dup2(leash, STDIN_FILENO) < 0 || dup2(nowhere, STDOUT_FILENO) < 0 ||
        dup2(nowhere, STDERR_FILENO) < 0)
        _exit(1);
    closefrom(STDERR_FILENO + 1); /* the bus is not ours */
    while (read(STDIN_FILENO, &c, 1) < 0 && errno == EINTR)
        ;
    remove_folder(folder);
    _exit(0);
}

static int start_guard(struct edit *e)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    e->guard = fork();
    if (e->guard == 0) {
        (void)close(ends[1]);
        be_guard(e->folder, ends[0]);
    }
    (void)close(ends[0]);
    e->leash = ends[1];
    if (e->guard > 0)
        return 0;
    e->guard = 0;
    (void)close(e->leash);
    return -EAGAIN;
}

static void remove_copy(struct edit *e)
{
    if (e->guard > 0) {
        (void)close(e->leash);
        while (waitpid(e->guard, NULL, 0) < 0 && errno == EINTR)
            ;
    } else if (e->folder[0] != '\0') {
        remove_folder(e->folder);
    }
    e->guard = 0;
    e->folder[0] = '\0';
}

/* A folder of our own in memory, never on a disk. */
static int make_folder(struct edit *e)
{
    const char *places[] = {secure_getenv("XDG_RUNTIME_DIR"), "/dev/shm"};

    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        int n = places[i] != NULL
                    ? snprintf(e->folder, sizeof(e->folder), "%s/qubes-vpn-XXXXXX", places[i])
                    : -1;

        if (n > 0 && (size_t)n < sizeof(e->folder) && mkdtemp(e->folder) != NULL)
            return 0;
    }
    e->folder[0] = '\0';
    return -ENOENT;
}

static int make_copy(struct edit *e)
{
    char most[32]; /* one more than a profile may have, should it have no end */
    const char *const words[] = {"head", "-c", most, "--", e->path, NULL};
    _cleanup_(closep) int fd = -1;
    struct stat st;
    int r = make_folder(e);

    if (r >= 0)
        r = start_guard(e);
    if (r < 0)
        return r;
    (void)snprintf(e->copy, sizeof(e->copy), "%s/%s", e->folder, e->name);
    (void)snprintf(most, sizeof(most), "%zu", (size_t)PROFILE_FILE_MAX + 1);
    fd = open(e->copy, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    r = run_entitled(e, words, -1, fd);
    if (r != 0)
        return r < 0 ? r : -EACCES;
    if (fstat(fd, &st) < 0)
        return -errno;
    return st.st_size > 0 && st.st_size <= PROFILE_FILE_MAX ? 0 : -EFBIG;
}

/* The copy's text in sealed memory. */
static int read_copy(const struct edit *e, int *ret_fd)
{
    char *text = calloc(1, PROFILE_FILE_MAX + 1);
    _cleanup_(closep) int fd = open(e->copy, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    size_t n = 0;
    int r = text == NULL ? -ENOMEM : fd < 0 ? -errno : 0;

    while (r == 0) {
        ssize_t got = read(fd, text + n, PROFILE_FILE_MAX + 1 - n);

        if (got < 0 && errno != EINTR)
            r = -errno;
        if (got == 0)
            break;
        n += got > 0 ? (size_t)got : 0;
        if (n > PROFILE_FILE_MAX)
            r = -EFBIG;
    }
    if (r == 0)
        r = memory_file("profile", text, n, ret_fd);
    if (text != NULL)
        explicit_bzero(text, n);
    free(text);
    return r;
}

static bool is_same(int a, int b)
{
    char x[4096], y[4096];
    off_t at = 0;
    bool same = true;
    ssize_t n;

    do {
        ssize_t m = pread(b, y, sizeof(y), at);

        n = pread(a, x, sizeof(x), at);
        same = n >= 0 && n == m && memcmp(x, y, (size_t)n) == 0;
        at += n;
    } while (same && n > 0);
    explicit_bzero(x, sizeof(x));
    explicit_bzero(y, sizeof(y));
    return same;
}

static int run_editor(const struct edit *e)
{
    static const char script[] =
        "for e in \"$VISUAL\" \"$EDITOR\" editor nano vi; do "
        "[ -n \"$e\" ] && command -v ${e%% *} > /dev/null && exec $e \"$1\"; done; exit 127";
    const char *const words[] = {"sh", "-c", script, "sh", e->copy, NULL};

    return run(words, -1, -1);
}

/* ---- what the supervisor says of it ---- */

static void show_lines(const char *title, const char *const *list)
{
    if (list[0] != NULL)
        terminal_say("%s", title);
    for (size_t i = 0; list[i] != NULL; i++)
        terminal_indent(2, 4, list[i]);
}

/* Files that were imported with it stay where they are: that they are not beside the copy is no
 * fault. */
static bool is_good(struct edit *e)
{
    const struct setup_view *v = setup_look(e->t->setup);
    const char *const paths[] = {e->copy};

    setup_back(e->t->setup);
    (void)setup_files(e->t->setup, paths, 1);
    terminal_wait_setup(e->t);
    if (v->step != SETUP_FOUND) {
        terminal_say("%s", v->error);
        return false;
    }
    show_lines(_("What is not used, and why:"), v->left_out);
    show_lines(_("Why it cannot be taken:"), v->refused);
    return v->refused[0] == NULL && (v->usable || v->missing[0] != NULL);
}

/* ---- the way back ---- */

static int bring_back(const struct edit *e, int text)
{
    static const char script[] =
        "umask 077 && rm -f \"$1.new~\" && cat > \"$1.new~\" && mv -f \"$1.new~\" \"$1\" || "
        "{ rm -f \"$1.new~\"; exit 1; }";
    const char *const words[] = {"sh", "-c", script, "sh", e->path, NULL};
    int r = lseek(text, 0, SEEK_SET) < 0 ? -errno : run_entitled(e, words, text, -1);

    return r > 0 ? -EACCES : r;
}

static const json_t *find(const json_t *status, const char *name)
{
    size_t i, len = strlen(name);
    json_t *one;

    json_array_foreach(json_object_get(status, "profiles"), i, one)
    {
        const char *other = json_string_value(json_object_get(one, "name"));

        if (other == NULL || strncmp(other, name, len) != 0 || strchr(other, '/') != NULL)
            continue;
        if (other[len] == '\0' || strcasecmp(other + len, ".ovpn") == 0 ||
            strcasecmp(other + len, ".conf") == 0)
            return one;
    }
    return NULL;
}

static bool lacks(const json_t *profile, const json_t **ret_needs)
{
    const json_t *needs = json_object_get(profile, "needs"), *has = json_object_get(profile, "has");

    *ret_needs = needs;
    return json_array_size(needs) > 0 && json_array_size(has) < json_array_size(needs);
}

/* A changed file is another one: what was given for the old one is asked for again. */
static void after(struct edit *e)
{
    char problem[WORDS_LONG / 2];
    const json_t *profile, *needs;
    static const bool never;

    for (uint64_t gone = 0; gone < TAKEN_US; gone += STEP_US) {
        profile = find(vpn_follow_status(e->t->follow), e->name);
        if (lacks(profile, &needs))
            break;
        if (json_array_size(json_object_get(profile, "needs")) == 0 && gone >= 10 * STEP_US)
            break;
        (void)terminal_wait(e->t, &never, false, STEP_US);
    }
    profile = find(vpn_follow_status(e->t->follow), e->name);
    if (words_member(profile, "problem", problem, sizeof(problem))[0] != '\0')
        terminal_say(_("It is in its place and cannot be used: %s. What runs goes on."), problem);
    else
        terminal_say("%s", _("It is in its place; the VPN service takes it as it is now."));
    if (lacks(profile, &needs)) {
        terminal_say("%s", _("What was given for the file before is not used for another one."));
        (void)terminal_secrets(e->t, e->name, needs);
    }
}

static void say_how(const struct edit *e)
{
    terminal_say(
        _("The profile is kept where only the VPN service may read it (%s), and you may not "
          "use sudo here. Nothing was changed."),
        e->path);
    terminal_say("%s",
                 _("Correct your provider's file instead, delete the profile and import the file "
                   "again."));
}

static int edit(struct edit *e)
{
    _cleanup_(closep) int before = -1;
    int r = make_copy(e);

    if (r == 0)
        r = read_copy(e, &before);
    if (r < 0) {
        say_how(e);
        return 1;
    }
    for (;;) {
        _cleanup_(closep) int now = -1;

        if (run_editor(e) != 0) {
            terminal_say("%s", _("The editor failed; nothing was changed. Its name is taken from "
                                 "VISUAL or EDITOR."));
            return 1;
        }
        r = read_copy(e, &now);
        if (r == 0 && is_same(before, now)) {
            terminal_say("%s", _("Nothing was changed."));
            return 0;
        }
        if (r == 0 && is_good(e)) {
            r = bring_back(e, now);
            if (r == 0)
                after(e);
            else
                terminal_say(_("It cannot be brought back (%s); nothing was changed."),
                             strerror(-r));
            return r == 0 ? 0 : 1;
        }
        if (!terminal_agree(e->t, _("Edit again? (Enter: yes, n: leave the profile as it was)")))
            return 1;
        if (e->t->over)
            return 1;
    }
}

static int begin(struct edit *e, const char *profile)
{
    const char *folder = secure_getenv("SLUICE_VPN_FOLDER");
    char shown[WORDS_SHORT];
    const json_t *found;
    struct stat st;

    if (vpn_follow_status(e->t->follow) == NULL) {
        terminal_say("%s", _("The VPN service does not answer."));
        return 1;
    }
    found = find(vpn_follow_status(e->t->follow), profile);
    if (found == NULL) {
        terminal_say(_("There is no profile %s."), words_clean(profile, shown, sizeof(shown)));
        terminal_show_profiles(json_object_get(vpn_follow_status(e->t->follow), "profiles"));
        return 1;
    }
    folder = folder != NULL ? folder : FOLDER;
    (void)snprintf(e->name, sizeof(e->name), "%s",
                   json_string_value(json_object_get(found, "name")));
    (void)snprintf(e->path, sizeof(e->path), "%s/%s", folder, e->name);
    if (stat(folder, &st) < 0) {
        say_how(e);
        return 1;
    }
    e->owner = st.st_uid;
    e->group = st.st_gid;
    return 0;
}

int terminal_edit(const char *socket, const char *profile)
{
    struct terminal t;
    struct edit e = {.t = &t};
    int status;

    if (terminal_begin(&t, socket) < 0)
        return 1;
    status = begin(&e, profile);
    if (status == 0)
        status = edit(&e);
    remove_copy(&e);
    terminal_end(&t);
    return status;
}
