// SPDX-License-Identifier: MIT
#include "faulty_sys.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <map>
#include <mutex>
#include <optional>

#include "../../src/sys.hpp"

namespace dirtyring::faulty {

namespace {

struct Order {
    std::optional<Call> call;  // none: any but close and munmap
    int error;
    unsigned after;

    [[nodiscard]] bool matches(Call made) const {
        return call ? *call == made : made != Call::close && made != Call::munmap;
    }
};

}  // namespace

struct Faults::State {
    std::mutex mutex;
    std::optional<Order> order;
    std::optional<Call> failed;
    std::array<unsigned, 11> calls{};
    int mappings = 0;
    std::optional<long> page_size;
    std::map<unsigned long, IoctlHandler> handlers;
    std::function<int(int, unsigned long, void*)> other_ioctls;

    /// The errno with which this call is to fail, or 0.
    int failure(Call call) {
        const std::lock_guard lock(mutex);
        ++calls[static_cast<std::size_t>(call)];
        if (!order || !order->matches(call)) {
            return 0;
        }
        if (order->after > 0) {
            --order->after;
            return 0;
        }
        const int error = order->error;
        order.reset();
        failed = call;
        return error;
    }
};

namespace {

std::mutex active_mutex;
std::shared_ptr<Faults::State> active_state;

/// Of the one Faults object there is; null without.
std::shared_ptr<Faults::State> active() {
    const std::lock_guard lock(active_mutex);
    return active_state;
}

int failure(Call call) {
    const std::shared_ptr<Faults::State> state = active();
    return state ? state->failure(call) : 0;
}

void count_mapping(int change) {
    if (const std::shared_ptr<Faults::State> state = active()) {
        const std::lock_guard lock(state->mutex);
        state->mappings += change;
    }
}

template <typename T>
T or_errno(T result) {
    return result < 0 ? static_cast<T>(-errno) : result;
}

}  // namespace

const char* name(Call call) {
    constexpr const char* names[] = {
        "open",  "close", "KVM_",         "mmap",     "munmap", "madvise", "pthread_sigmask",
        "pread", "uname", "memfd_create", "ftruncate"};
    return names[static_cast<std::size_t>(call)];
}

Faults::Faults() : state_(std::make_shared<State>()) {
    const std::lock_guard lock(active_mutex);
    if (active_state) {
        std::abort();  // one's orders would be carried out on the other's calls
    }
    active_state = state_;
}

Faults::~Faults() {
    const std::lock_guard lock(active_mutex);
    active_state.reset();
}

void Faults::fail_next(Call call, int error, unsigned after) {
    const std::lock_guard lock(state_->mutex);
    state_->order = Order{call, error, after};
    state_->failed.reset();
}

void Faults::fail_any(int error, unsigned after) {
    const std::lock_guard lock(state_->mutex);
    state_->order = Order{{}, error, after};
    state_->failed.reset();
}

std::optional<Call> Faults::failed() const {
    const std::lock_guard lock(state_->mutex);
    return state_->failed;
}

void Faults::on_ioctl(unsigned long request, IoctlHandler handler) {
    const std::lock_guard lock(state_->mutex);
    state_->handlers[request] = std::move(handler);
}

void Faults::on_ioctl(unsigned long request, int result) {
    on_ioctl(request, [result](int, void*) { return result; });
}

void Faults::on_other_ioctls(std::function<int(int, unsigned long, void*)> handler) {
    const std::lock_guard lock(state_->mutex);
    state_->other_ioctls = std::move(handler);
}

void Faults::set_page_size(long bytes) {
    const std::lock_guard lock(state_->mutex);
    state_->page_size = bytes;
}

unsigned Faults::calls(Call call) const {
    const std::lock_guard lock(state_->mutex);
    return state_->calls[static_cast<std::size_t>(call)];
}

int Faults::mappings() const {
    const std::lock_guard lock(state_->mutex);
    return state_->mappings;
}

std::size_t open_descriptors() {
    const std::filesystem::directory_iterator entries("/proc/self/fd");
    // One of them is the iterator's own, each time.
    return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
}

}  // namespace dirtyring::faulty

// The library's system calls: what src/sys.cpp has in the real library.
namespace dirtyring::sys {

using faulty::Call;
using faulty::failure;
using faulty::or_errno;

int open(const char* path, int flags) noexcept {
    const int error = failure(Call::open);
    return error != 0 ? -error : or_errno(::open(path, flags));
}

int close(int fd) noexcept {
    const int error = failure(Call::close);
    const int result = or_errno(::close(fd));
    return error != 0 ? -error : result;
}

int ioctl(int fd, unsigned long request, void* argument) noexcept {
    if (const int error = failure(Call::ioctl); error != 0) {
        return -error;
    }
    faulty::IoctlHandler handler;
    std::function<int(int, unsigned long, void*)> other;
    if (const std::shared_ptr<faulty::Faults::State> state = faulty::active()) {
        const std::lock_guard lock(state->mutex);
        const auto found = state->handlers.find(request);
        if (found != state->handlers.end()) {
            handler = found->second;
        } else {
            other = state->other_ioctls;
        }
    }
    if (handler) {
        return handler(fd, argument);
    }
    if (other) {
        return other(fd, request, argument);
    }
    // SAFETY: forwards what the library passes; see src/sys.cpp.
    return or_errno(::ioctl(fd, request, argument));
}

int mmap(void** address, std::size_t length, int protection, int flags, int fd,
         long offset) noexcept {
    if (const int error = failure(Call::mmap); error != 0) {
        return -error;
    }
    // SAFETY: forwards what the library passes; no MAP_FIXED, so no existing object is replaced.
    void* mapping = ::mmap(nullptr, length, protection, flags, fd, offset);
    if (mapping == MAP_FAILED) {
        return -errno;
    }
    faulty::count_mapping(1);
    *address = mapping;
    return 0;
}

int munmap(void* address, std::size_t length) noexcept {
    const int error = failure(Call::munmap);
    const int result = or_errno(::munmap(address, length));
    if (result == 0) {
        faulty::count_mapping(-1);
    }
    return error != 0 ? -error : result;
}

int madvise(void* address, std::size_t length, int advice) noexcept {
    const int error = failure(Call::madvise);
    return error != 0 ? -error : or_errno(::madvise(address, length, advice));
}

int thread_sigmask(int how, const sigset_t* set, sigset_t* old) noexcept {
    const int error = failure(Call::thread_sigmask);
    return error != 0 ? -error : -::pthread_sigmask(how, set, old);
}

long pread(int fd, void* buffer, std::size_t length, long offset) noexcept {
    const int error = failure(Call::pread);
    return error != 0 ? -error : or_errno(::pread(fd, buffer, length, offset));
}

int memfd_create(const char* name) noexcept {
    const int error = failure(Call::memfd_create);
    return error != 0 ? -error : or_errno(::memfd_create(name, MFD_CLOEXEC));
}

int ftruncate(int fd, long bytes) noexcept {
    const int error = failure(Call::ftruncate);
    return error != 0 ? -error : or_errno(::ftruncate(fd, bytes));
}

int uname(utsname* about) noexcept {
    const int error = failure(Call::uname);
    return error != 0 ? -error : or_errno(::uname(about));
}

long page_size() noexcept {
    if (const std::shared_ptr<faulty::Faults::State> state = faulty::active()) {
        const std::lock_guard lock(state->mutex);
        if (state->page_size) {
            return *state->page_size;
        }
    }
    return ::sysconf(_SC_PAGESIZE);
}

}  // namespace dirtyring::sys
