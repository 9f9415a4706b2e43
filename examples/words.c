/* Counts the words of each request:
 *     cc -O2 -o words examples/words.c && repd serve -- ./words */
#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    uint32_t left, head;
    while (fread(&left, 4, 1, stdin) == 1) {
        int words = 0, c, in_word = 0;
        for (left = ntohl(left); left > 0 && (c = getchar()) != EOF; left--) {
            words += !isspace(c) && !in_word;
            in_word = !isspace(c);
        }
        char reply[16];
        head = htonl(snprintf(reply, sizeof reply, "%d", words));
        fwrite(&head, 4, 1, stdout), fputs(reply, stdout), fflush(stdout);
    }
}
