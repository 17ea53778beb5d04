/*
 * turn_relay: the port program of cromulent_turn. Everything it is told, and everything it has to
 * say, goes through the control channel (docs/control.md).
 */
#include "relay/daemon.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    EXIT_USAGE = 2
};

/* A descriptor 0, 1 or 2 that is closed would become a socket, which a stray print could reach. */
static void fill_stdio(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

/* Every allocation is a descriptor. */
static void raise_descriptor_limit(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    files.rlim_cur = files.rlim_max;
#ifdef OPEN_MAX /* macOS says "infinity" and takes no more than this */
    if (files.rlim_cur > OPEN_MAX)
        files.rlim_cur = OPEN_MAX;
#endif
    setrlimit(RLIMIT_NOFILE, &files);
}

int main(void)
{
    if (fcntl(CONTROL_IN_FD, F_GETFD) < 0 || fcntl(CONTROL_OUT_FD, F_GETFD) < 0) {
        fputs("usage: turn_relay is started by cromulent_turn, as an Erlang port with its control "
              "channel on descriptors 3 and 4\n",
              stderr);
        return EXIT_USAGE;
    }
    fill_stdio();
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    return daemon_run();
}
