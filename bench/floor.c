#define _GNU_SOURCE
#include "floor.h"

#include "core/buf.h"
#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    BATCH = 64
};

struct floor {
    int *out; /* a socket per client */
    const struct client *clients;
    int n;
    struct mmsghdr msgs[BATCH];
    struct iovec iov[BATCH];
    uint8_t bytes[BATCH][MESSAGE_MAX];
};

static void forward(struct floor *f, struct span packet)
{
    struct rbuf r = rbuf_of(packet.data, packet.len);
    int i = rbuf_u16(&r) - CLIENT_CHANNEL;
    uint16_t len = rbuf_u16(&r);
    const uint8_t *payload = rbuf_take(&r, len);
    if (!payload || i < 0 || i >= f->n)
        return;
    sendto(f->out[i], payload, len, 0, (const struct sockaddr *)&f->clients[i].peer_addr,
           sizeof f->clients[i].peer_addr);
}

static _Noreturn void serve(struct floor *f, int in)
{
    for (;;) {
        for (int i = 0; i < BATCH; i++) {
            f->iov[i] = (struct iovec){f->bytes[i], MESSAGE_MAX};
            f->msgs[i].msg_hdr = (struct msghdr){.msg_iov = &f->iov[i], .msg_iovlen = 1};
        }
        int n = recvmmsg(in, f->msgs, BATCH, MSG_WAITFORONE, NULL);
        for (int i = 0; i < n; i++)
            forward(f, span_of(f->bytes[i], f->msgs[i].msg_len));
    }
}

static int *open_outputs(int n)
{
    struct client_ports ports = {.net = 3};
    int *out = calloc((size_t)n, sizeof *out);
    if (!out)
        die("no memory");
    for (int i = 0; i < n; i++)
        out[i] = client_socket(&ports, false);
    return out;
}

int floor_start(int in, struct client *clients, int n, int cpu)
{
    struct floor *f = calloc(1, sizeof *f);
    if (!f)
        die("no memory");
    fcntl(in, F_SETFL, fcntl(in, F_GETFL) & ~O_NONBLOCK);
    *f = (struct floor){.out = open_outputs(n), .clients = clients, .n = n};
    int parent = getpid(), pid = fork();
    if (pid < 0)
        die("fork: %s", strerror(errno));
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
        if (cpu >= 0)
            proc_pin(0, cpu);
        serve(f, in);
    }
    for (int i = 0; i < n; i++)
        close(f->out[i]);
    free(f->out);
    free(f);
    return pid;
}

void floor_stop(int pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
