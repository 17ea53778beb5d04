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

/* What a sandboxed process met, told through shared memory: it can open no file to tell it. */
struct report {
    char summary[SANDBOX_TEXT_MAX];
    int read_file, write_file, make_directory, fork, exec, socket, thread;
    bool finished;
};

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

    sandbox_apply(r->summary);
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

static struct report *sandboxed(void)
{
    struct report *r =
        mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0;

    if (r == MAP_FAILED)
        abort();
    pid_t pid = fork();
    if (pid == 0) {
        try_everything(r);
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK_EQ(status, 0);
    return r;
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

#ifdef __linux__
/* Any Linux of the last ten years has filters, on the machines that the list is written for. */
static void test_is_there_on_linux(void)
{
#if defined(__x86_64__) || defined(__aarch64__)
    struct report *r = sandboxed();

    CHECK(strstr(r->summary, "no_new_privs on") != NULL);
    CHECK(strstr(r->summary, "seccomp on") != NULL);
    munmap(r, sizeof *r);
#endif
}
#endif

int main(void)
{
    const struct check_test tests[] = {
        CHECK_TEST(test_keeps_what_it_says),
        CHECK_TEST(test_leaves_what_a_relay_needs),
#ifdef __linux__
        CHECK_TEST(test_is_there_on_linux),
#endif
    };
    return CHECK_RUN(tests);
}
