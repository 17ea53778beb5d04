#define _GNU_SOURCE
#include "team.h"

#include "proc.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct member {
    struct load load;
    struct load_run *run;
    struct load_result result;
    double seconds;
    int cpu; /* -1: anywhere */
    pthread_t thread;
};

struct team {
    int n;
    struct member members[];
};

/* The first client of part i of n, an even number. */
static int part_start(int clients, int n, int i)
{
    return (int)((int64_t)clients / 2 * i / n * 2);
}

static void enlist(struct member *m, const struct load *load, int i, int n)
{
    int first = part_start(load->n, n, i),
        end = i + 1 < n ? part_start(load->n, n, i + 1) : load->n;
    m->load = *load;
    m->load.clients += first;
    m->load.n = end - first;
    m->load.rate = load->rate * m->load.n / load->n;
    if (load->got)
        m->load.got += first;
    m->run = load_new(&m->load);
}

struct team *team_new(const struct load *load, const struct team_setup *setup)
{
    struct team *team = calloc(1, sizeof *team + (size_t)setup->threads * sizeof *team->members);
    if (!team)
        die("no memory");
    if (load->n < 2 * setup->threads && setup->threads > 1)
        die("%d threads want %d clients at least", setup->threads, 2 * setup->threads);
    team->n = setup->threads;
    for (int i = 0; i < team->n; i++) {
        team->members[i].cpu = setup->cpu_count ? setup->cpus[i % setup->cpu_count] : -1;
        enlist(&team->members[i], load, i, team->n);
    }
    return team;
}

void team_free(struct team *team)
{
    for (int i = 0; i < team->n; i++)
        load_free(team->members[i].run);
    free(team);
}

static void *work(void *member)
{
    struct member *m = member;
    if (m->cpu >= 0)
        proc_pin(0, m->cpu);
    load_send(m->run, m->seconds, &m->result);
    return NULL;
}

static void merge(struct load_result *into, const struct load_result *from)
{
    into->sent += from->sent;
    into->unsent += from->unsent;
    into->delivered += from->delivered;
    into->late += from->late;
    into->bad += from->bad;
    into->seconds = from->seconds > into->seconds ? from->seconds : into->seconds;
    hist_merge(&into->latency, &from->latency);
}

void team_send(struct team *team, double seconds, struct load_result *result)
{
    *result = (struct load_result){0};
    for (int i = 0; i < team->n; i++) {
        struct member *m = &team->members[i];
        m->seconds = seconds;
        if (pthread_create(&m->thread, NULL, work, m))
            die("pthread_create failed");
    }
    for (int i = 0; i < team->n; i++) {
        pthread_join(team->members[i].thread, NULL);
        merge(result, &team->members[i].result);
    }
}
