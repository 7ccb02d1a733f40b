/* Publishes metric messages over ZeroMQ as a program of somebody else's would: libzmq, two frames, documented JSON.
 *
 *   cc -O2 -o publish publish.c -lzmq -lm        Debian: libzmq3-dev
 *   publish ENDPOINT SENSORS SECONDS RATE HWM    RATE in messages a second, 0 for as fast as they go
 *
 * Binds ENDPOINT, waits until somebody subscribes to metrics.*, says SUBSCRIBED, waits for a line on its standard
 * input, publishes for SECONDS, says what it did, and stays until its standard input ends, so that nothing is cut off.
 *
 * The socket is XPUB, which is PUB with the subscriptions readable, and ZMQ_XPUB_NODROP: at the high-water mark a
 * PUB drops silently, this one is told, and counts the message instead. What is sent has been queued for the
 * subscriber; what is not is named as dropped. The decision is the same, taken at the same mark.
 *
 * Messages are encoded beforehand (7 metrics, four rounds of values for each sensor); only their time is written anew,
 * every millisecond or every 256 messages. */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

enum { ROUNDS = 4, METRICS = 7, MESSAGE_LEN_MAX = 512, AT_ONCE = 256 };

static const char *const names[METRICS] = {
    "cpu_usage_percent", "memory_usage_bytes", "memory_usage_percent", "disk_usage_percent",
    "network_rx_bytes",  "network_tx_bytes",   "load_average_1m",
};
static const char topic[] = "metrics.system";
static const char opening[] = "{\"timestamp\":\"";
static const char no_time[] = "2000-01-01T00:00:00.000000Z";

struct message {
    int len;
    char text[MESSAGE_LEN_MAX];
};

static void fail(const char *what) {
    fprintf(stderr, "publish: %s: %s\n", what, zmq_strerror(zmq_errno()));
    exit(1);
}

/* Vigna's splitmix64, as a number in [0, 1). */
static double draw(void) {
    static uint64_t state = 7;
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

/* Lognormal with a median of about 20, as measured values are. */
static double value(void) {
    double radius = sqrt(-2 * log(1 - draw()));
    return exp(3 + 1.2 * radius * cos(6.283185307179586 * draw()));
}

static void encode(struct message *message, int sensor) {
    char *text = message->text;
    int len = snprintf(text, MESSAGE_LEN_MAX, "%s%s\",\"service\":\"system\",\"metrics\":{", opening, no_time);
    for (int i = 0; i < METRICS; i++)
        len += snprintf(text + len, MESSAGE_LEN_MAX - len, "%s\"%s\":%.3f", i ? "," : "", names[i], value());
    len += snprintf(text + len, MESSAGE_LEN_MAX - len,
                    "},\"tags\":{\"host\":\"server-%05d\",\"environment\":\"production\",\"location\":\"rack-%d\"}}",
                    sensor, sensor % 40);
    if (len >= MESSAGE_LEN_MAX) {
        fprintf(stderr, "publish: expected messages below %d bytes, found %d\n", MESSAGE_LEN_MAX, len);
        exit(1);
    }
    message->len = len;
}

static double seconds_since(const struct timespec *start) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) / 1e9;
}

/* The time of day as the messages carry it. */
static void write_time(char *into) {
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t len = strftime(into, sizeof no_time, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(into + len, sizeof no_time - len, ".%06ldZ", now.tv_nsec / 1000);
}

/* Whether both frames were queued; if not, the subscriber's queue is at the mark. */
static int send_message(void *socket, const struct message *message) {
    if (zmq_send(socket, topic, sizeof topic - 1, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
        if (errno != EAGAIN) fail("send");
        return 0;
    }
    /* A message is one of the queue's units: its second frame waits for nothing but the moment. */
    while (zmq_send(socket, message->text, message->len, 0) < 0)
        if (errno != EAGAIN && errno != EINTR) fail("send");
    return 1;
}

static void wait_for_subscriber(void *socket) {
    char said[256];
    for (;;) {
        int len = zmq_recv(socket, said, sizeof said, 0);
        if (len < 0 && errno != EINTR) fail("subscription");
        if (len >= 8 && said[0] == 1 && memcmp(said + 1, "metrics", 7) == 0) break;
    }
    printf("SUBSCRIBED\n");
    fflush(stdout);
    (void)!fgets(said, sizeof said, stdin);
}

static void *open_socket(void *context, const char *endpoint, int hwm) {
    int yes = 1;
    void *socket = zmq_socket(context, ZMQ_XPUB);
    if (!socket || zmq_setsockopt(socket, ZMQ_SNDHWM, &hwm, sizeof hwm) ||
        zmq_setsockopt(socket, ZMQ_XPUB_NODROP, &yes, sizeof yes))
        fail("socket");
    if (zmq_bind(socket, endpoint)) fail(endpoint);
    return socket;
}

int main(int count, char **arguments) {
    if (count != 6) {
        fprintf(stderr, "usage: publish ENDPOINT SENSORS SECONDS RATE HWM\n");
        return 64;
    }
    int sensors = atoi(arguments[2]), hwm = atoi(arguments[5]);
    double seconds = atof(arguments[3]), rate = atof(arguments[4]);
    if (sensors < 1 || seconds <= 0 || rate < 0 || hwm < 0) {
        fprintf(stderr, "publish: expected positive numbers\n");
        return 64;
    }
    long messages = (long)sensors * ROUNDS;
    struct message *all = calloc(messages, sizeof *all);
    if (!all) return 71;
    for (long i = 0; i < messages; i++) encode(&all[i], (int)(i % sensors));

    void *context = zmq_ctx_new(), *socket = open_socket(context, arguments[1], hwm);
    wait_for_subscriber(socket);
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    uint64_t offered = 0, sent = 0;
    char now[sizeof no_time];
    double took;
    while ((took = seconds_since(&start)) < seconds) {
        uint64_t due = rate > 0 ? (uint64_t)(took * rate) : offered + AT_ONCE;
        write_time(now);
        for (int i = 0; offered < due && i < AT_ONCE; i++, offered++) {
            struct message *message = &all[offered % messages];
            memcpy(message->text + sizeof opening - 1, now, sizeof no_time - 1);
            sent += send_message(socket, message);
        }
        if (offered >= due && rate > 0) nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
    printf("RESULT offered=%llu sent=%llu dropped=%llu seconds=%.3f\n", (unsigned long long)offered,
           (unsigned long long)sent, (unsigned long long)(offered - sent), took);
    fflush(stdout);
    while (fgetc(stdin) != EOF) continue;
    int linger_ms = 1000;
    zmq_setsockopt(socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    zmq_close(socket);
    zmq_ctx_term(context);
    free(all);
    return 0;
}
