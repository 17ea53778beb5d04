/* The floor to hold servers against: forwarding with the socket API and nothing else. */
#ifndef BENCH_FLOOR_H
#define BENCH_FLOOR_H

#include "client.h"

/*
 * Forks a process, kept on `cpu` unless that is negative, which receives on the socket `in` and
 * sends each ChannelData's payload out of the socket of its client, as a relay must. Client number
 * i speaks on channel CLIENT_CHANNEL + i, and its relay and peer_addr say from where to where.
 * Returns its process id; it dies with this process.
 */
int floor_start(int in, struct client *clients, int n, int cpu);
void floor_stop(int pid);

#endif
