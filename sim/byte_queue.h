// Bytes on their way between the host and the design.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

namespace harness {

// Far more than a host keeps in flight: its write() must not block (pyserial's spins until it is through).
constexpr size_t kBufferBytes = size_t{64} << 20;

// A byte queue in one block, so that the clock loop can walk it with a bare pointer. The pages of a block
// this size cost memory only once they are written.
class ByteQueue {
  public:
    bool empty() const { return begin_ == end_; }
    size_t size() const { return static_cast<size_t>(end_ - begin_); }
    uint8_t* begin() { return begin_; }
    uint8_t* end() { return end_; }
    void consume(size_t count) { begin_ += count; }
    void produce(size_t count) { end_ += count; }
    void clear() { begin_ = end_ = bytes_.get(); }

    // Room behind end(). Bytes move to the front only once half the block is used up: each moves once.
    size_t room() {
        if (empty()) clear();
        if (begin_ > bytes_.get() + kBufferBytes / 2) {
            const size_t count = size();
            std::memmove(bytes_.get(), begin_, count);
            begin_ = bytes_.get();
            end_ = begin_ + count;
        }
        return static_cast<size_t>(bytes_.get() + kBufferBytes - end_);
    }

  private:
    // One byte more than is used: the clock loop reads *end() when there is nothing to send.
    std::unique_ptr<uint8_t[]> bytes_{new uint8_t[kBufferBytes + 1]};
    uint8_t* begin_ = bytes_.get();
    uint8_t* end_ = bytes_.get();
};

}  // namespace harness
