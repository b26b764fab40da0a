// The simulated chip: a verilated design behind a local TCP socket, at most one byte each way per clock cycle.
//
//   client <-- TCP on 127.0.0.1 --> input and output queues <-- streams i and o --> design
//
// Usage: chip [port]. Port 0, the default, lets the system choose. "port N" on stdout says that the chip
// is out of reset and can be reached. One client is served at a time; the next one finds the chip as the
// last one left it. The process ends when its stdin does.
//
// Simulated time passes only while the chip has work: with nothing to feed it and `idle` high, the process
// sleeps in poll().

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "byte_queue.h"
#include "clocked.h"
#include "owner.h"

namespace harness {

// Cycles between two looks at the sockets. Long enough that the system calls cost nothing beside the
// simulation; short when the chip waits for a host that may already have written.
constexpr int kFedChunk = 4096;
constexpr int kDryChunk = 512;

// Idle cycles before time stops: a chip with a registered `idle` reports new work some cycles late.
constexpr int kQuietCycles = 8;

// Cycles that a chip left by its client gets to come to rest, so that the next client does not receive the
// last one's replies. Bounded, because a chip in the middle of a packet may never be idle.
constexpr long kFarewellCycles = 1L << 20;

class StreamChip : private Clocked {
  public:
    StreamChip() {
        start();
        model_.o___05Fready = 1;  // the output queue takes all; when it is full, time stops instead
    }

    // True if the last run ended with the chip idle: clocking it would change nothing.
    bool resting() const { return quiet_ >= kQuietCycles; }

    // Clocks the chip `limit` times; fewer if it takes the last input byte (the socket may hold more) or
    // comes to rest. `output` must have room for `limit` bytes. Returns the number of cycles.
    int run(ByteQueue& input, ByteQueue& output, int limit) {
        const uint8_t* next = input.begin();
        const uint8_t* const end = input.end();
        uint8_t* out = output.end();
        bool drained = false;
        int cycle = 0;
        for (quiet_ = 0; cycle < limit && !drained && !resting(); ++cycle) {
            const bool offered = next != end;
            model_.i___05Fvalid = offered;
            model_.i___05Fpayload = *next;
            half_cycle(0);  // settles the paths from inputs to outputs before the edge that both sides act on
            const bool taken = offered && model_.i___05Fready;
            const bool given = model_.o___05Fvalid;
            quiet_ = offered || given || !model_.idle ? 0 : quiet_ + 1;
            if (given) *out++ = model_.o___05Fpayload;
            if (taken) drained = ++next == end;
            half_cycle(1);
        }
        input.consume(static_cast<size_t>(next - input.begin()));
        output.produce(static_cast<size_t>(out - output.end()));
        return cycle;
    }

  private:
    int quiet_ = 0;
};

class Socket {
  public:
    explicit Socket(uint16_t port) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(port);
        socklen_t length = sizeof address;
        auto* const generic = reinterpret_cast<sockaddr*>(&address);
        const int on = 1;
        listener_ = socket(AF_INET, SOCK_STREAM, 0);
        if (listener_ < 0) fail("socket");
        // A chip restarted on a fixed port need not wait for the last one's connections to time out.
        setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(listener_, generic, length) < 0) fail("bind");
        if (listen(listener_, 1) < 0) fail("listen");
        if (getsockname(listener_, generic, &length) < 0) fail("getsockname");
        std::printf("port %d\n", ntohs(address.sin_port));
        std::fflush(stdout);
    }

    bool connected() const { return client_ >= 0; }

    // Moves bytes between client and queues, admits the next client if there is none and `admit` is set.
    // With `wait` it sleeps until one of these can happen. False once stdin has ended.
    bool exchange(ByteQueue& input, ByteQueue& output, bool admit, bool wait) {
        if (connected()) send_from(output);
        pollfd watched[2] = {{STDIN_FILENO, POLLIN, 0}, {-1, 0, 0}};  // poll() skips the number -1
        if (connected()) {
            const bool room = input.room() > 0;
            watched[1] = {client_, static_cast<short>((room ? POLLIN : 0) | (output.empty() ? 0 : POLLOUT)), 0};
        } else if (admit) {
            watched[1] = {listener_, POLLIN, 0};
        }
        if (poll(watched, 2, wait ? -1 : 0) < 0 && errno != EINTR) fail("poll");
        if (watched[0].revents && read_owner() < 0) return false;
        if (!watched[1].revents) return true;
        if (!connected()) {
            accept_client();
        } else if (input.room() > 0) {
            receive_into(input);
        }
        return true;
    }

  private:
    void accept_client() {
        client_ = accept(listener_, nullptr, nullptr);
        const int on = 1;
        // Replies are small and waited for: they must not be held back to be merged.
        if (connected()) setsockopt(client_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }

    // Only here does a client leave, so that all that it wrote before reaches the chip.
    void receive_into(ByteQueue& input) {
        const ssize_t count = recv(client_, input.end(), input.room(), MSG_DONTWAIT);
        if (count > 0) {
            input.produce(static_cast<size_t>(count));
        } else if (count == 0 || !would_block()) {
            close(client_);
            client_ = -1;
        }
    }

    void send_from(ByteQueue& output) {
        if (output.empty()) return;
        const ssize_t count = send(client_, output.begin(), output.size(), MSG_DONTWAIT);
        if (count >= 0) {
            output.consume(static_cast<size_t>(count));
        } else if (!would_block()) {
            output.clear();  // nobody reads it any more
        }
    }

    int listener_;
    int client_ = -1;
};

}  // namespace harness

int main(int argc, char** argv) {
    using namespace harness;
    std::signal(SIGPIPE, SIG_IGN);  // send() reports a client that left
    const auto chip = std::make_unique<StreamChip>();
    Socket link{static_cast<uint16_t>(argc > 1 ? std::atoi(argv[1]) : 0)};
    ByteQueue input;
    ByteQueue output;
    long farewell = 0;
    for (;;) {
        if (!link.connected()) output.clear();  // nobody is there to read it, as on a wire
        const bool work = !input.empty() || !chip->resting();
        const bool full = output.room() < kFedChunk;
        const bool admit = !work || (input.empty() && farewell >= kFarewellCycles);
        if (!link.exchange(input, output, admit, !work || full)) return 0;
        if (full) continue;
        const int cycles = chip->run(input, output, input.empty() ? kDryChunk : kFedChunk);
        farewell = link.connected() || !input.empty() ? 0 : farewell + cycles;
    }
}
