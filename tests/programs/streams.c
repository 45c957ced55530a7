/* Streams over AF_VSOCK, for tests of virtio-vsock.
 *
 * streams echo PORT N              accepts N connections, gives back what comes on each
 * streams talk PORT N BYTES        opens N connections to the host at once, sends BYTES on each, checks that they come back
 * streams refused PORT             expects that nobody is there
 * streams gone PORT                connects, says "ready", waits for the connection's reset
 */
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/vm_sockets.h>

enum { PIECE = 65536 };

static void die(const char *what)
{
    printf("streams: %s: %s\n", what, strerror(errno));
    exit(1);
}

static struct sockaddr_vm place(unsigned cid, unsigned port)
{
    struct sockaddr_vm address = { .svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port };
    return address;
}

static int try_connect(unsigned port)
{
    struct sockaddr_vm address = place(VMADDR_CID_HOST, port);
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (fd < 0)
        die("socket");
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

/* Byte `at` of stream `number`. */
static uint8_t byte_of(uint64_t at, unsigned number)
{
    return (uint8_t)(at * 31 + (at >> 9) + number * 7);
}

static void talk_one(unsigned port, unsigned number, uint64_t bytes)
{
    static uint8_t out[PIECE], in[PIECE];
    uint64_t sent = 0, got = 0;
    int fd = try_connect(port);
    if (fd < 0)
        die("connect");
    while (got < bytes) {
        struct pollfd waits = { .fd = fd, .events = POLLIN | (sent < bytes ? POLLOUT : 0) };
        if (poll(&waits, 1, 60000) <= 0)
            die("poll");
        if (waits.revents & POLLOUT) {
            uint64_t len = bytes - sent < PIECE ? bytes - sent : PIECE;
            for (uint64_t i = 0; i < len; i++)
                out[i] = byte_of(sent + i, number);
            ssize_t done = send(fd, out, len, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (done < 0 && errno != EAGAIN)
                die("send");
            if (done > 0 && (sent += (uint64_t)done) == bytes && shutdown(fd, SHUT_WR) != 0)
                die("shutdown");
        }
        if (waits.revents & (POLLIN | POLLHUP)) {
            ssize_t done = recv(fd, in, PIECE, MSG_DONTWAIT);
            if (done == 0 || (done < 0 && errno != EAGAIN))
                die("recv");
            for (ssize_t i = 0; i < done; i++)
                if (in[i] != byte_of(got + (uint64_t)i, number))
                    die("wrong byte");
            got += done > 0 ? (uint64_t)done : 0;
        }
    }
    if (recv(fd, in, PIECE, 0) != 0)
        die("no end");
    close(fd);
}

static void echo_one(int fd)
{
    static uint8_t buffer[PIECE];
    for (;;) {
        ssize_t got = recv(fd, buffer, PIECE, 0);
        if (got < 0)
            die("recv");
        if (got == 0)
            break;
        for (ssize_t at = 0; at < got;) {
            ssize_t done = send(fd, buffer + at, (size_t)(got - at), MSG_NOSIGNAL);
            if (done < 0)
                die("send");
            at += done;
        }
    }
    shutdown(fd, SHUT_WR);
    close(fd);
}

/* Waits for all children; the answer is how many failed. */
static int failed(unsigned count)
{
    int bad = 0;
    while (count--) {
        int status = 0;
        if (wait(&status) < 0 || status != 0)
            bad++;
    }
    return bad;
}

int main(int argc, char **argv)
{
    unsigned port = argc > 2 ? (unsigned)atoi(argv[2]) : 0, count = argc > 3 ? (unsigned)atoi(argv[3]) : 1;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc > 4 && strcmp(argv[1], "talk") == 0) {
        for (unsigned i = 0; i < count; i++)
            if (fork() == 0) {
                talk_one(port, i, strtoull(argv[4], NULL, 0));
                _exit(0);
            }
        printf("streams: %d failed\n", failed(count));
    } else if (argc > 3 && strcmp(argv[1], "echo") == 0) {
        struct sockaddr_vm address = place(VMADDR_CID_ANY, port);
        int listener = socket(AF_VSOCK, SOCK_STREAM, 0);
        if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 128) != 0)
            die("listen");
        printf("streams: ready\n");
        for (unsigned i = 0; i < count; i++) {
            int fd = accept(listener, NULL, NULL);
            if (fd < 0)
                die("accept");
            if (fork() == 0) {
                echo_one(fd);
                _exit(0);
            }
            close(fd);
        }
        printf("streams: %d failed\n", failed(count));
    } else if (argc > 2 && strcmp(argv[1], "refused") == 0) {
        printf("streams: %s\n", try_connect(port) < 0 ? strerror(errno) : "somebody is there");
    } else if (argc > 2 && strcmp(argv[1], "gone") == 0) {
        char byte;
        int fd = try_connect(port);
        if (fd < 0)
            die("connect");
        printf("streams: ready\n");
        ssize_t got = recv(fd, &byte, 1, 0);
        // What Linux says where the reset comes between connect and recv.
        if (got < 0 && errno == ENOTCONN)
            errno = ECONNRESET;
        printf("streams: %s\n", got == 0 ? "end" : got < 0 ? strerror(errno) : "data");
    } else {
        printf("streams: wrong arguments\n");
        return 2;
    }
    return 0;
}
