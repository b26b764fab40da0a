// The simulated chip with its serial port: a verilated design whose wires end, bit by bit, in a pseudo-terminal.
//
//   host <-- /dev/pts/N --> input and output queues <-- far end's UART <-- wires rx and tx --> design
//
// Usage: chip CYCLES. A bit of the far end lasts so many cycles, 1 or more, fractions and all. "port /dev/pts/N" on
// stdout says that the chip is out of reset and can be reached. The port can be closed and opened as often as wanted;
// the chip knows nothing of it. For every byte on stdin there is an answer on stdout, "lost L framing F": whether the
// design has lost a byte, and how many the far end has for want of a start or stop bit. The process ends when its
// stdin does.
//
// Bytes go down the wire at their rate, whether the chip can take them or not. On the way back none is lost while
// the port is open. Simulated time passes only while something is under way: with nothing to send, the wires at rest
// and `busy` low, the process sleeps in poll().

#include <fcntl.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "byte_queue.h"
#include "clocked.h"
#include "far_end.h"
#include "owner.h"

namespace harness {

// Cycles between two looks at the terminal: long enough that the system calls cost next to nothing.
constexpr int kChunk = 1024;

// What must have been quiet before time stops: a chip may report new work some cycles late, and between two bytes
// the wire is at rest for a bit or two.
constexpr int kQuietCycles = 64;
constexpr int kQuietBits = 2 * kFrameBits;

// Until somebody opens the port it is looked at so often: poll() has nothing that would wait for that.
constexpr int kClosedMs = 10;

class SerialChip : private Clocked {
  public:
    explicit SerialChip(double cycles)
        : sender_(static_cast<Time>(cycles * kCycle)),
          receiver_(static_cast<Time>(cycles * kCycle)),
          rest_(kQuietCycles + static_cast<int>(kQuietBits * cycles)) {
        model_.rx = 1;
        start();
    }

    // True if nothing is under way: clocking the chip would change nothing.
    bool resting() const { return quiet_ >= rest_; }

    bool lost() const { return model_.lost; }
    long framing_errors() const { return receiver_.framing_errors(); }

    // Clocks the chip `limit` times; fewer if the last input byte is begun (the terminal may hold more) or it comes
    // to rest. `output` must have room for `limit` bytes.
    void run(ByteQueue& input, ByteQueue& output, int limit) {
        const bool fed = !input.empty();
        for (int cycle = 0; cycle < limit; ++cycle) {
            if (input.empty() && (fed || resting())) return;
            model_.rx = sender_.next(input);
            half_cycle(0);
            receiver_.hear(model_.tx, output);
            quiet_ = sender_.busy() || receiver_.busy() || model_.busy ? 0 : quiet_ + 1;
            half_cycle(1);
        }
    }

  private:
    Sender sender_;
    Receiver receiver_;
    int rest_;
    int quiet_ = 0;
};

class Terminal {
  public:
    Terminal() {
        master_ = posix_openpt(O_RDWR | O_NOCTTY);
        if (master_ < 0) fail("posix_openpt");
        if (grantpt(master_) < 0) fail("grantpt");
        if (unlockpt(master_) < 0) fail("unlockpt");
        if (fcntl(master_, F_SETFL, O_NONBLOCK) < 0) fail("fcntl");
        const char* const path = ptsname(master_);
        if (path == nullptr) fail("ptsname");
        // Closed again, or a port that nobody has opened yet would look like one that is open.
        const int port = open(path, O_RDWR | O_NOCTTY);
        termios settings{};
        if (port < 0 || tcgetattr(port, &settings) < 0) fail(path);
        cfmakeraw(&settings);
        if (tcsetattr(port, TCSANOW, &settings) < 0) fail(path);
        close(port);
        std::printf("port %s\n", path);
        std::fflush(stdout);
    }

    bool opened() const { return opened_; }

    // Moves bytes between host and queues. With `wait` it sleeps until there are some, or something on stdin.
    // Returns how often the owner has asked for a report, or -1 once stdin has ended.
    int exchange(ByteQueue& input, ByteQueue& output, bool wait) {
        if (opened_) send_from(output);
        const bool room = input.room() > 0;
        pollfd watched[2] = {{STDIN_FILENO, POLLIN, 0}, {master_, 0, 0}};
        watched[1].events = static_cast<short>((room ? POLLIN : 0) | (output.empty() ? 0 : POLLOUT));
        // While the port is closed, poll() has that to say at once.
        if (wait && !opened_) look(watched, 1, kClosedMs);
        look(watched, 2, wait && opened_ ? -1 : 0);
        opened_ = (watched[1].revents & POLLHUP) == 0;
        if (room && (watched[1].revents & POLLIN) != 0) receive_into(input);
        return watched[0].revents != 0 ? read_owner() : 0;
    }

  private:
    static void look(pollfd* watched, nfds_t count, int ms) {
        if (poll(watched, count, ms) < 0 && errno != EINTR) fail("poll");
    }

    // What was written before the port was closed still comes; then there is EIO until it is open again.
    void receive_into(ByteQueue& input) {
        const ssize_t count = read(master_, input.end(), input.room());
        if (count > 0) input.produce(static_cast<size_t>(count));
    }

    void send_from(ByteQueue& output) {
        if (output.empty()) return;
        const ssize_t count = write(master_, output.begin(), output.size());
        if (count > 0) output.consume(static_cast<size_t>(count));
    }

    int master_;
    bool opened_ = false;
};

}  // namespace harness

int main(int argc, char** argv) {
    using namespace harness;
    if (argc != 2) return 2;
    SerialChip chip{std::strtod(argv[1], nullptr)};
    Terminal terminal;
    ByteQueue input;
    ByteQueue output;
    for (;;) {
        if (!terminal.opened()) output.clear();  // nobody is there to read it, as on a wire
        const bool work = !input.empty() || !chip.resting();
        const bool full = output.room() < kChunk;
        int reports = terminal.exchange(input, output, !work || full);
        if (reports < 0) return 0;
        for (; reports > 0; --reports) {
            std::printf("lost %d framing %ld\n", chip.lost(), chip.framing_errors());
            std::fflush(stdout);
        }
        if (!full) chip.run(input, output, kChunk);
    }
}
