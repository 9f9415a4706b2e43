/* Counts the words of each request, as a worker of its own:
 *     cc -O2 -o worker examples/workers/worker.c -lzmq && ./worker tcp://127.0.0.1:5556 */
#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include <zmq.h>

static volatile sig_atomic_t leaving;

static void leave(int number) { leaving = number; }

/* Answers a request that comes in time; returns 0 if there is none. */
static int answer(void *socket, long milliseconds) {
    zmq_pollitem_t item = {socket, 0, ZMQ_POLLIN, 0};
    if (zmq_poll(&item, 1, milliseconds) < 1) return 0;
    int words = 0, more;
    do {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, socket, 0) < 0) return 0;
        const unsigned char *text = zmq_msg_data(&frame);
        for (size_t i = 0; i < zmq_msg_size(&frame); i++)
            words += !isspace(text[i]) && (i == 0 || isspace(text[i - 1]));
        more = zmq_msg_more(&frame);
        zmq_msg_close(&frame);
    } while (more);
    char reply[16];
    zmq_send(socket, reply, snprintf(reply, sizeof reply, "%d", words), 0);
    return 1;
}

int main(int count, char **arguments) {
    void *context = zmq_ctx_new(), *socket = zmq_socket(context, ZMQ_REP);
    int linger = 1000;
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    if (count != 2 || zmq_connect(socket, arguments[1]) != 0) return 2;
    signal(SIGTERM, leave);
    while (!leaving) answer(socket, 100);
    usleep(100000); /* To a worker that is silent for that long repd sends nothing more. */
    while (answer(socket, 0)) {}
    zmq_close(socket);
    zmq_ctx_term(context);
}
