// The far end of a serial line, without a design: `far_end SEND HEAR` sends stdin with bits of SEND / 2^32 cycles and
// hears it with bits of HEAR / 2^32. Prints the cycles in which the wire changes, then what was heard and the errors.

#include "far_end.h"

#include <cstdio>
#include <cstdlib>

int main(int, char** argv) {
    harness::Sender sender{std::atoll(argv[1])};
    harness::Receiver receiver{std::atoll(argv[2])};
    harness::ByteQueue input;
    harness::ByteQueue output;
    for (int byte = std::getchar(); byte != EOF; byte = std::getchar()) {
        *input.end() = static_cast<uint8_t>(byte);
        input.produce(1);
    }
    bool before = true;
    for (long cycle = 0; !input.empty() || sender.busy() || receiver.busy(); ++cycle) {
        const bool level = sender.next(input);
        if (level != before) std::printf("%ld ", cycle);
        before = level;
        receiver.hear(level, output);
    }
    std::printf("\n");
    for (; !output.empty(); output.consume(1)) std::printf("%d ", *output.begin());
    std::printf("\n%ld\n", receiver.framing_errors());
}
