#include "check.h"
#include "relay/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
#define FILTERS 1
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#ifndef SECCOMP_FILTER_FLAG_SPEC_ALLOW
#define SECCOMP_FILTER_FLAG_SPEC_ALLOW (1UL << 2)
#endif
#endif

/* What a sandboxed process met, told through shared memory: it can open no file to tell it. */
struct report {
    char summary[SANDBOX_TEXT_MAX];
    int read_file, write_file, make_directory, fork, exec, socket, thread;
    char before[4096], after[4096]; /* what the kernel says of speculation, a line each */
    bool finished;
};

/* The lines of a process's status on speculation: none in kernels before 4.17. */
static void read_speculation(int status, char *out, size_t size)
{
    char text[8192];
    ssize_t n = pread(status, text, sizeof text - 1, 0);

    *out = 0;
    text[n > 0 ? n : 0] = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (strncmp(line, "Speculation", 11) == 0)
            snprintf(out + strlen(out), size - strlen(out), "%s\n", line);
    }
}

static int errno_of(long result)
{
    return result < 0 ? errno : 0;
}

static void *idle(void *arg)
{
    return arg;
}

static void try_everything(struct report *r)
{
    pthread_t thread;
    int status = open("/proc/self/status", O_RDONLY); /* it cannot be opened afterwards */

    read_speculation(status, r->before, sizeof r->before);
    sandbox_apply(r->summary);
    read_speculation(status, r->after, sizeof r->after);
    r->read_file = errno_of(open("/dev/null", O_RDONLY));
    r->write_file = errno_of(open("/dev/null", O_WRONLY));
    r->make_directory = errno_of(mkdir("/proc/none", 0700));
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    r->fork = errno_of(child);
    r->exec = errno_of(execl("/bin/sh", "sh", "-c", "exit 0", (char *)NULL));
    r->socket = errno_of(socket(AF_INET, SOCK_DGRAM, 0));
    r->thread = pthread_create(&thread, NULL, idle, NULL);
    if (r->thread == 0)
        pthread_join(thread, NULL);
    r->finished = true;
}

/* What a process met whose kernel does as `prepare` has it do. */
static struct report *sandboxed_after(void (*prepare)(void))
{
    struct report *r =
        mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0;

    if (r == MAP_FAILED)
        abort();
    pid_t pid = fork();
    if (pid == 0) {
        if (prepare)
            prepare();
        try_everything(r);
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    return r;
}

static struct report *sandboxed(void)
{
    return sandboxed_after(NULL);
}

static void test_keeps_what_it_says(void)
{
    struct report *r = sandboxed();

    printf("# %s\n", r->summary);
    CHECK(r->finished);
    CHECK(strncmp(r->summary, "sandbox: ", 9) == 0);
    if (strstr(r->summary, "seccomp on")) {
        CHECK_EQ(r->write_file, EPERM);
        CHECK_EQ(r->make_directory, EPERM);
        CHECK_EQ(r->fork, EPERM);
        CHECK_EQ(r->exec, EPERM);
    }
    if (strstr(r->summary, "landlock on"))
        CHECK_EQ(r->read_file, EACCES);
    munmap(r, sizeof *r);
}

static void test_leaves_what_a_relay_needs(void)
{
    struct report *r = sandboxed();

    CHECK_EQ(r->socket, 0);
    CHECK_EQ(r->thread, 0);
    munmap(r, sizeof *r);
}

#ifdef FILTERS

/* Any Linux of the last ten years has filters, on the machines that the list is written for. */
static void test_is_there_on_linux(void)
{
    struct report *r = sandboxed();

    CHECK(strstr(r->summary, "no_new_privs on") != NULL);
    CHECK(strstr(r->summary, "seccomp on") != NULL);
    munmap(r, sizeof *r);
}

/*
 * A kernel for what comes after: filters with the flag SPEC_ALLOW, or those without it, fail with
 * this error.
 */
static void refuse_filters(bool with_flag, int error)
{
    const uint32_t refused = SECCOMP_RET_ERRNO | (uint32_t)error, allowed = SECCOMP_RET_ALLOW;
    const uint32_t flag = SECCOMP_FILTER_FLAG_SPEC_ALLOW; /* the lower half of an argument: */
    const uint32_t flags = offsetof(struct seccomp_data, args) + sizeof(uint64_t);
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, flags),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, flag, with_flag ? 0 : 1, with_flag ? 1 : 0),
        BPF_STMT(BPF_RET | BPF_K, refused),
        BPF_STMT(BPF_RET | BPF_K, allowed),
    };
    struct sock_fprog prog = {.len = sizeof code / sizeof *code, .filter = code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) != 0)
        abort();
}

static void refuse_unflagged(void)
{
    refuse_filters(false, EPERM);
}

static void refuse_flagged(void)
{
    refuse_filters(true, EINVAL);
}

/* The processor speculates as before: the kernel is told so, and says so where it reports it. */
static void test_leaves_speculation_alone(void)
{
    struct report *r = sandboxed();

    CHECK(r->finished);
    CHECK_STR(r->after, r->before);
    munmap(r, sizeof *r);
    r = sandboxed_after(refuse_unflagged);
    CHECK(strstr(r->summary, "seccomp on") != NULL);
    munmap(r, sizeof *r);
}

/* Kernels before 4.17: EINVAL for a flag that they do not know. */
static void test_works_without_the_flag(void)
{
    struct report *r = sandboxed_after(refuse_flagged);

    CHECK(r->finished);
    CHECK(strstr(r->summary, "seccomp on") != NULL);
    CHECK_EQ(r->exec, EPERM);
    munmap(r, sizeof *r);
}

#endif

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_keeps_what_it_says),     CHECK_TEST(test_leaves_what_a_relay_needs),
#ifdef FILTERS
        CHECK_TEST(test_is_there_on_linux),      CHECK_TEST(test_leaves_speculation_alone),
        CHECK_TEST(test_works_without_the_flag),
#endif
    };
    return CHECK_RUN(tests);
}
