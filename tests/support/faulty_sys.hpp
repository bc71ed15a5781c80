// SPDX-License-Identifier: MIT
//
// The library's system calls (src/sys.hpp) with faults on order: a program that links
// dirtyring_faulty in place of dirtyring makes real system calls until a Faults object says
// otherwise.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>

namespace dirtyring::faulty {

enum class Call {
    open,
    close,
    ioctl,
    mmap,
    munmap,
    madvise,
    thread_sigmask,
    pread,
    uname,
    memfd_create,
    ftruncate
};

/// The name that an Error of this call begins with; "KVM_" for ioctl.
const char* name(Call call);

/// What an ioctl answers in place of the kernel: its result, or -errno.
using IoctlHandler = std::function<int(int fd, void* argument)>;

/// Orders for as long as it lives; everything is real again afterwards. One at a time. Its calls
/// may be made from any thread, also from inside a handler, and handlers run on the thread that
/// makes the ioctl, several at once if several threads do.
class Faults {
  public:
    Faults();
    ~Faults();
    Faults(const Faults&) = delete;
    Faults& operator=(const Faults&) = delete;

    /// Lets `after` calls of this kind pass, then fails one with `error` and without asking the
    /// kernel or a handler. close and munmap are done all the same, as Linux does them, and then
    /// said to have failed.
    void fail_next(Call call, int error, unsigned after = 0);
    /// The same, counting calls of every kind but close and munmap, whose answers nobody needs.
    void fail_any(int error, unsigned after = 0);
    /// The call that has been made to fail since the last order, if it has come to that.
    [[nodiscard]] std::optional<Call> failed() const;

    /// Answers this ioctl, on any descriptor.
    void on_ioctl(unsigned long request, IoctlHandler handler);
    void on_ioctl(unsigned long request, int result);
    /// Answers every ioctl that has no handler of its own.
    void on_other_ioctls(std::function<int(int fd, unsigned long request, void* argument)> handler);

    /// The size of the host's pages, as if it were this.
    void set_page_size(long bytes);

    /// Calls of this kind since the object was made, failed ones included.
    [[nodiscard]] unsigned calls(Call call) const;
    /// Mappings made less mappings undone since the object was made.
    [[nodiscard]] int mappings() const;

    struct State;

  private:
    std::shared_ptr<State> state_;
};

/// Descriptors that this process has open (/proc/self/fd).
std::size_t open_descriptors();

}  // namespace dirtyring::faulty
