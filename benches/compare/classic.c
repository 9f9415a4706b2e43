/* The classic servers in C, over the system's libzmq:
       classic WORKERS [SECRET-KEY]
   The guide's mtserver, a ROUTER, zmq_proxy, a DEALER and REP workers, over CURVE with a key; without workers its
   hwserver, one REP socket. Requests that begin with "slow " take 20 ms. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, zmq_strerror(zmq_errno()));
    exit(1);
}

/* Answers each request with its bytes in reverse, where they lie. */
static void answer(void *socket)
{
    zmq_msg_t message;
    zmq_msg_init(&message);
    while (zmq_msg_recv(&message, socket, 0) != -1) {
        size_t size = zmq_msg_size(&message);
        char *text = zmq_msg_data(&message);
        if (size >= 5 && memcmp(text, "slow ", 5) == 0)
            usleep(20000);
        for (size_t i = 0; i < size / 2; i++) {
            char byte = text[i];
            text[i] = text[size - 1 - i];
            text[size - 1 - i] = byte;
        }
        if (zmq_msg_send(&message, socket, 0) == -1)
            break;
    }
    fail("answer");
}

static void *work(void *context)
{
    void *socket = zmq_socket(context, ZMQ_REP);
    if (!socket || zmq_connect(socket, "inproc://workers"))
        fail("worker");
    answer(socket);
    return NULL;
}

/* Binds it to a free port, and says where it listens. */
static void listen_at(void *socket)
{
    char endpoint[256];
    size_t size = sizeof endpoint;
    if (zmq_bind(socket, "tcp://127.0.0.1:*") || zmq_getsockopt(socket, ZMQ_LAST_ENDPOINT, endpoint, &size))
        fail("bind");
    fprintf(stderr, "listening on %s\n", endpoint);
}

int main(int count, char **arguments)
{
    void *context = zmq_ctx_new();
    int workers = count > 1 ? atoi(arguments[1]) : 5;
    if (workers == 0) {
        void *socket = zmq_socket(context, ZMQ_REP);
        listen_at(socket);
        answer(socket);
    }
    void *clients = zmq_socket(context, ZMQ_ROUTER), *backend = zmq_socket(context, ZMQ_DEALER);
    int is_server = 1;
    if (count > 2
        && (zmq_setsockopt(clients, ZMQ_CURVE_SERVER, &is_server, sizeof is_server)
            || zmq_setsockopt(clients, ZMQ_CURVE_SECRETKEY, arguments[2], 41)))
        fail("key");
    if (zmq_bind(backend, "inproc://workers"))
        fail("workers");
    while (workers--) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, context))
            fail("thread");
    }
    listen_at(clients);
    zmq_proxy(clients, backend, NULL);
    fail("proxy");
}
