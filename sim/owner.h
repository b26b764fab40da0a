// The process that started this one. It holds the other ends of stdin, stdout and stderr; this process ends when
// its stdin does, so it cannot outlive its owner, however that one dies. (PR_SET_PDEATHSIG would fire when the
// starting *thread* ends.)

#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace harness {

[[noreturn]] inline void fail(const char* what) {
    std::perror(what);
    std::exit(1);
}

// After a system call that failed: nothing is wrong, there is just nothing to be done now.
inline bool would_block() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR; }

// Reads stdin, once poll() says that there is something: the number of bytes, or -1 if it has ended.
inline int read_owner() {
    char ignored[256];
    const ssize_t count = read(STDIN_FILENO, ignored, sizeof ignored);
    if (count > 0) return static_cast<int>(count);
    return count < 0 && would_block() ? 0 : -1;
}

}  // namespace harness
