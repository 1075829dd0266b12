/* swarm.c: many small worlds, each drawn from a seed, in which everything happens at once.
 *
 * A seed draws a network, its faults, nodes with limits of all sizes and the work of the programs
 * on them; a model outside of the nodes knows what must come of it; then all heals, and all that
 * is open must end. One seed is one run, the same everywhere.
 *
 *     make swarm                         300 seeds from 1 on, and tests/swarm_seeds.txt
 *     make swarm SEEDS=10000 START=5000  others
 *     make swarm SECURE=dtls SEEDS=100   with mbedTLS and libsodium
 *     make swarm SEED=17                 one, and what happens in it
 *
 * A seed that fails is made smaller: features are switched off one by one, actions and nodes taken
 * away, as long as it fails. What is left is printed with the command that runs it:
 *
 *     make swarm SEED=17 WITHOUT=loss,crash ACTIONS=12 NODES=2
 *
 * The parts, in the order they build on each other:
 *     swarm/plan.h    what a seed says; the table of features: begin there to add one
 *     swarm/world.h   network and nodes, faults, what is checked at every step
 *     swarm/work.h    connections, streams, messages, datagrams, and the model of them
 *     swarm/ask.h     requests and routes
 *     swarm/more.h    names, timers, stops, wrong calls
 *     swarm/program.h the program on each node; the table of actions
 *     swarm/run.h     the phases of a run
 *     this file       seeds in processes of their own, shrinking, the report */
#define P2P_ASSERT(x)  ((x) ? (void)0 : swarm_assert(#x, __LINE__))
#define P2P_SIM_ASSERT P2P_ASSERT
static void swarm_assert(const char *what, int line);
#define P2P_DEBUG
#define P2P_IMPLEMENTATION
#define P2P_SIM_IMPLEMENTATION
#define P2P_SODIUM_IMPLEMENTATION
#define P2P_MBEDTLS_IMPLEMENTATION
#include "p2p_mbedtls.h"
#include "p2p_sodium.h"
#include "p2p_sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "swarm/plan.h"
#include "swarm/world.h"
#include "swarm/work.h"
#include "swarm/ask.h"
#include "swarm/more.h"
#include "swarm/program.h"
#include "swarm/run.h"

enum { JOBS_MAX = 64, CPU_LIMIT_S = 120, SHRINKS_MAX = 400 };

static struct {
    uint64_t start, seeds;
    uint32_t jobs;
    const char *commit;
} wanted;

typedef struct job {
    pid_t pid;
    swarm_case what;
    verdict *verdict;
} job;

/* ---- one seed in a process of its own ---- */

static void job_start(job *j, const swarm_case *what) {
    memset(j->verdict, 0, sizeof *j->verdict);
    j->what = *what;
    fflush(stdout);
    j->pid = fork();
    if (j->pid != 0)
        return;
    the = *what;
    result = j->verdict;
    alarm(CPU_LIMIT_S);
    swarm_run();
    fflush(stdout);
    _exit(0);
}

/* A process that ended without a verdict crashed, or ran for ever. */
static void job_ended(job *j, int status) {
    verdict *v = j->verdict;
    j->pid = 0;
    if (v->done)
        return;
    v->done = v->failed = 1;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
        snprintf(v->text, sizeof v->text, "ran for more than %d s", CPU_LIMIT_S);
    else
        snprintf(v->text, sizeof v->text, "ended with %s %d",
                 WIFSIGNALED(status) ? "signal" : "code",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static verdict *shared(void) {
    void *p =
        mmap(NULL, sizeof(verdict), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    return (verdict *)p;
}

static void job_run(job *j, const swarm_case *what) {
    int status = 0;
    job_start(j, what);
    if (j->pid < 0 || waitpid(j->pid, &status, 0) < 0) {
        perror("fork");
        exit(1);
    }
    job_ended(j, status);
}

/* ---- shrinking ---- */

static uint32_t shrinks;
static char shrink_text[240]; /* how the whole case failed */

/* The same words, but for numbers. */
static int alike(const char *a, const char *b) {
    for (; *a && *b; a++, b++) {
        while (*a >= '0' && *a <= '9')
            a++;
        while (*b >= '0' && *b <= '9')
            b++;
        if (*a != *b)
            return 0;
        if (!*a)
            return 1;
    }
    return *a == *b;
}

/* Keeps the change if the smaller case fails in the same way. */
static int shrink_try(job *j, swarm_case *kept, swarm_case smaller) {
    int same;
    if (shrinks++ >= SHRINKS_MAX)
        return 0;
    job_run(j, &smaller);
    same = j->verdict->failed && alike(j->verdict->text, shrink_text);
    if (same)
        *kept = smaller;
    return same;
}

static void shrink_features(job *j, swarm_case *kept) {
    for (int i = 0; i < F_COUNT; i++) {
        swarm_case smaller = *kept;
        smaller.without |= UINT64_C(1) << i;
        if (smaller.without != kept->without)
            (void)shrink_try(j, kept, smaller);
    }
}

/* The smallest that fails, by halves; not always failing in between, it need not be the least. */
static void shrink_number(job *j, swarm_case *kept, uint32_t *number, uint32_t least,
                          uint32_t most) {
    while (least < most) {
        uint32_t middle = least + (most - least) / 2;
        swarm_case smaller = *kept;
        *(uint32_t *)((char *)&smaller + ((char *)number - (char *)kept)) = middle;
        if (shrink_try(j, kept, smaller))
            most = middle;
        else
            least = middle + 1;
    }
}

static swarm_case shrink(job *j, const swarm_case *what) {
    swarm_case kept = *what;
    uint64_t before;
    kept.verbose = 0;
    shrinks = 0;
    the = kept;
    plan_make();
    do {
        before = kept.without;
        shrink_number(j, &kept, &kept.actions, 1,
                      kept.actions < plan.actions_drawn ? kept.actions : plan.actions_drawn);
        shrink_features(j, &kept);
    } while (kept.without != before && shrinks < SHRINKS_MAX);
    shrink_number(j, &kept, &kept.nodes, 2,
                  kept.nodes < plan.nodes_drawn ? kept.nodes : plan.nodes_drawn);
    job_run(j, &kept); /* its own words */
    return kept;
}

/* ---- the report ---- */

static void print_command(const swarm_case *what) {
    const char *before = " WITHOUT=";
    printf("make swarm SEED=%llu", (unsigned long long)what->seed);
    for (int i = 0; i < F_COUNT; i++)
        if (what->without >> i & 1) {
            printf("%s%s", before, feature_name[i]);
            before = ",";
        }
    if (what->actions != UINT32_MAX)
        printf(" ACTIONS=%u", (unsigned)what->actions);
    if (what->nodes != UINT32_MAX)
        printf(" NODES=%u", (unsigned)what->nodes);
    printf("%s\n", what->dtls ? " SECURE=dtls" : "");
}

static void report(const swarm_case *what, const verdict *v, job *j) {
    swarm_case least;
    printf("FAIL seed %llu of %s after %.3f s: %s\n    ", (unsigned long long)what->seed,
           wanted.commit, (double)v->virtual_us / 1e6, v->text);
    print_command(what);
    if (getenv("NOSHRINK"))
        return;
    memcpy(shrink_text, v->text, sizeof shrink_text);
    least = shrink(j, what);
    printf("  smaller: %s\n    ", j->verdict->text);
    print_command(&least);
    printf("  still on:");
    for (int i = 0; i < F_COUNT; i++)
        if (!(least.without >> i & 1))
            printf(" %s", feature_name[i]);
    printf("\n");
}

/* ---- many seeds ---- */

static struct { uint64_t passed, failed, steps, virtual_us, tally[T_COUNT]; } sum;

static void count(const verdict *v) {
    sum.passed += !v->failed;
    sum.failed += v->failed != 0;
    sum.steps += v->steps;
    sum.virtual_us += v->virtual_us;
    for (int i = 0; i < T_COUNT; i++)
        sum.tally[i] += v->tally[i];
}

/* Every so many seeds are run twice: the same bytes must come. */
static void run_again(job *spare, const job *j) {
    if (j->verdict->failed || j->what.seed % 32 != 0)
        return;
    job_run(spare, &j->what);
    if (spare->verdict->digest == j->verdict->digest && !spare->verdict->failed)
        return;
    j->verdict->failed = 1;
    snprintf(j->verdict->text, sizeof j->verdict->text,
             "run twice, it was not the same: %llx, %llx", (unsigned long long)j->verdict->digest,
             (unsigned long long)spare->verdict->digest);
}

static void job_over(job *j, job *spare) {
    run_again(spare, j);
    count(j->verdict);
    if (j->verdict->failed) {
        verdict v = *j->verdict;
        report(&j->what, &v, spare);
    }
}

static job *job_of(job *jobs, pid_t pid) {
    for (uint32_t i = 0; i < wanted.jobs; i++)
        if (jobs[i].pid == pid)
            return &jobs[i];
    return NULL;
}

/* Runs the seeds that next() gives, some at a time, until it gives none. */
static void run_all(const swarm_case *like, int (*next)(uint64_t *seed)) {
    job jobs[JOBS_MAX], spare;
    uint32_t running = 0;
    swarm_case what = *like;
    int more = 1, status;
    memset(jobs, 0, sizeof jobs);
    spare.verdict = shared();
    for (uint32_t i = 0; i < wanted.jobs; i++)
        jobs[i].verdict = shared();
    for (;;) {
        while (more && running < wanted.jobs && (more = next(&what.seed)) != 0) {
            job_start(job_of(jobs, 0), &what);
            running++;
        }
        if (running == 0)
            return;
        job *j = job_of(jobs, wait(&status));
        if (!j)
            continue;
        job_ended(j, status);
        job_over(j, &spare);
        running--;
    }
}

/* tests/swarm_seeds.txt: seeds that once found something, a line each, with what it was. */
static int next_in_list(uint64_t *seed) {
    static FILE *list;
    char line[200];
    if (!list)
        list = fopen("tests/swarm_seeds.txt", "r");
    while (list && fgets(line, sizeof line, list))
        if (line[0] >= '0' && line[0] <= '9') {
            *seed = strtoull(line, NULL, 10);
            return 1;
        }
    return 0;
}

static int next_in_range(uint64_t *seed) {
    static uint64_t given;
    if (given == wanted.seeds)
        return 0;
    *seed = wanted.start + given++;
    return 1;
}

/* ---- what is wanted ---- */

static uint64_t number_from(const char *name, uint64_t by_default) {
    const char *text = getenv(name);
    char *rest;
    uint64_t value;
    if (!text || !*text)
        return by_default;
    value = strtoull(text, &rest, 10);
    if (*rest) {
        printf("%s=%s: not a number\n", name, text);
        exit(2);
    }
    return value;
}

static uint64_t features_from(const char *text) {
    uint64_t set = 0;
    while (text && *text) {
        size_t n = strcspn(text, ",");
        int i = 0;
        while (i < F_COUNT && (strlen(feature_name[i]) != n || strncmp(feature_name[i], text, n)))
            i++;
        if (i == F_COUNT) {
            printf("WITHOUT=%s: there are\n", text);
            for (i = 0; i < F_COUNT; i++)
                printf("    %-12s %s\n", feature_name[i], feature_text[i]);
            exit(2);
        }
        set |= UINT64_C(1) << i;
        text += n + (text[n] == ',');
    }
    return set;
}

static swarm_case case_from_env(void) {
    const char *secure = getenv("SECURE");
    swarm_case what;
    memset(&what, 0, sizeof what);
    what.seed = number_from("SEED", 0);
    what.without = features_from(getenv("WITHOUT"));
    what.nodes = (uint32_t)number_from("NODES", UINT32_MAX);
    what.actions = (uint32_t)number_from("ACTIONS", UINT32_MAX);
    what.dtls = secure && strcmp(secure, "dtls") == 0;
    what.verbose = getenv("SEED") != NULL;
    if (what.nodes < 2) {
        printf("NODES: at least 2\n");
        exit(2);
    }
    return what;
}

static void print_sum(void) {
    printf("%.0f s of virtual time, %llu steps;", (double)sum.virtual_us / 1e6,
           (unsigned long long)sum.steps);
    for (int i = 0; i < T_COUNT; i++)
        printf(" %s %llu%s", tally_name[i], (unsigned long long)sum.tally[i],
               i + 1 < T_COUNT ? "," : "\n");
}

/* A swarm that does not do a thing tests nothing of it. */
static void check_tallies(void) {
    for (int i = 0; i < T_COUNT && sum.passed >= 500; i++)
        if (sum.tally[i] == 0) {
            printf("FAIL nothing of this ever happened: %s\n", tally_name[i]);
            sum.failed++;
        }
}

int main(void) {
    swarm_case like = case_from_env();
    const char *commit = getenv("COMMIT");
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    wanted.commit = commit && *commit ? commit : "(commit not known)";
    wanted.jobs = (uint32_t)number_from("JOBS", 1);
    wanted.jobs = wanted.jobs < 1 ? 1 : wanted.jobs > JOBS_MAX ? JOBS_MAX : wanted.jobs;
    wanted.start = like.verbose ? like.seed : number_from("START", 1);
    wanted.seeds = like.verbose ? 1 : number_from("SEEDS", 300);
    memory = (uint64_t *)mmap(NULL, MEMORY, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        return 1;
    }
    pattern_make();
    if (!getenv("SEED") && !getenv("START"))
        run_all(&like, next_in_list);
    run_all(&like, next_in_range);
    print_sum();
    if (!like.without)
        check_tallies();
    printf("%llu passed, %llu failed\n", (unsigned long long)sum.passed,
           (unsigned long long)sum.failed);
    return sum.failed != 0;
}
