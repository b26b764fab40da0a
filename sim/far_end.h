// The far end of a serial line, 8N1, as a UART with a clock of its own: it is handed the wires cycle by cycle of
// the chip's clock, and what it makes of them depends on how long its own bits last.

#pragma once

#include <cstdint>

#include "byte_queue.h"

namespace harness {

// Times are in 2^-32 cycles of the chip's clock, so that those of bits add up without rounding.
using Time = int64_t;
constexpr Time kCycle = Time{1} << 32;

// Start, 8 of data from bit 0 up, stop.
constexpr int kFrameBits = 10;
constexpr unsigned kStop = 1U << (kFrameBits - 1);

// Puts bytes on the wire, one behind the other without a pause.
class Sender {
  public:
    explicit Sender(Time bit) : bit_(bit) {}

    bool busy() const { return left_ > 0; }

    // The wire in the next cycle. Takes a byte from `input` when its start bit begins.
    bool next(ByteQueue& input) {
        if (left_ == 0) {
            if (input.empty()) {
                time_ = bit_;
                return true;
            }
            frame_ = kStop | static_cast<unsigned>(*input.begin()) << 1;
            left_ = kFrameBits;
            input.consume(1);
        }
        const bool level = frame_ & 1;
        time_ -= kCycle;
        if (time_ <= 0) {
            time_ += bit_;
            frame_ >>= 1;
            --left_;
        }
        return level;
    }

  private:
    Time bit_;
    Time time_ = bit_;  // until the bit on the wire ends
    unsigned frame_ = 0;
    int left_ = 0;  // bits, the one on the wire included
};

// Takes bytes from the wire: looks at it in the middle of each bit, counted from the edge of the start bit. A byte
// whose start or stop bit is wrong is a framing error and dropped; the wire must then have been at rest before the
// next one begins.
class Receiver {
  public:
    explicit Receiver(Time bit) : bit_(bit) {}

    bool busy() const { return state_ == State::kByte; }
    long framing_errors() const { return framing_errors_; }

    // The wire in this cycle. `output` must have room.
    void hear(bool level, ByteQueue& output) {
        if (state_ == State::kRest && !level) {
            state_ = State::kByte;
            time_ = bit_ / 2;
            frame_ = 0;
            place_ = 0;
        } else if (state_ == State::kBreak && level) {
            state_ = State::kRest;
        }
        if (state_ != State::kByte) return;
        if (time_ < kCycle) {
            time_ += bit_;
            frame_ |= static_cast<unsigned>(level) << place_;
            if (++place_ == kFrameBits) end_frame(output);
        }
        time_ -= kCycle;
    }

  private:
    enum class State { kRest, kByte, kBreak };

    void end_frame(ByteQueue& output) {
        if ((frame_ & (kStop | 1)) == kStop) {
            *output.end() = static_cast<uint8_t>(frame_ >> 1);
            output.produce(1);
            state_ = State::kRest;
        } else {
            ++framing_errors_;
            state_ = State::kBreak;
        }
    }

    Time bit_;
    Time time_ = 0;  // until the next look
    State state_ = State::kRest;
    unsigned frame_ = 0;
    int place_ = 0;
    long framing_errors_ = 0;
};

}  // namespace harness
