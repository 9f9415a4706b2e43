/* A client with keys, over CZMQ: asks for hello, and makes a pair of keys of its own.
   usage: czmq_client OWN_SECRET SERVER_PUBLIC ENDPOINT NEW */
#include <czmq.h>
int main(int argc, char **argv)
{
    zcert_t *own = zcert_load(argv[1]), *server = zcert_load(argv[2]);
    if (!own || !server) return 2;
    zsock_t *client = zsock_new(ZMQ_REQ);
    zcert_apply(own, client);
    zsock_set_curve_serverkey(client, zcert_public_txt(server));
    zsock_set_rcvtimeo(client, 10000);
    zsock_connect(client, "%s", argv[3]);
    zstr_send(client, "hello");
    char *reply = zstr_recv(client);
    puts(reply ? reply : "no reply");
    zstr_free(&reply);
    zsock_destroy(&client);
    zcert_t *made = zcert_new();
    zcert_set_meta(made, "name", "theirs");
    zcert_save(made, argv[4]);
    return 0;
}
