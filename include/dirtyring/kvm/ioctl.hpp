// SPDX-License-Identifier: MIT
//
// The one mechanism behind every KVM call: a request (number and name) with the type of its
// argument, and the shapes that an argument can have. A new call is a declaration in the class of
// its descriptor and a line beside it in src/kvm:
//
//     Result<kvm_regs> Vcpu::get_regs() const {
//         return out<kvm_regs>({KVM_GET_REGS, "KVM_GET_REGS"});
//     }
//
// A request whose number was made from another struct size than the argument's does not compile:
// that is how Debian 12's linux/kvm.h goes wrong in C++ (see abi.hpp).
#pragma once

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "dirtyring/error.hpp"
#include "dirtyring/kvm/fd.hpp"
#include "dirtyring/kvm/flex_array.hpp"

namespace dirtyring::kvm {

/// A KVM ioctl that takes no struct: its argument is absent or a plain number.
struct Request {
    unsigned long number;
    const char* name;
};

/// A KVM ioctl whose argument is a T.
template <typename T>
struct RequestOf : Request {
    consteval RequestOf(unsigned long request_number, const char* request_name)
        : Request{request_number, request_name} {
        if (_IOC_SIZE(request_number) != sizeof(T)) {
            wrong_size();
        }
    }

  private:
    static void wrong_size() {}  // not constexpr: reaching it stops the compilation
};

namespace detail {

/// ioctl with EINTR passed on as any other errno; `argument` is null or what the request's number
/// describes.
Result<int> ioctl(const Fd& fd, Request request, void* argument);
/// The same, for a request whose argument is a number, which the error then shows.
Result<int> ioctl_value(const Fd& fd, Request request, std::uint64_t value);

}  // namespace detail

/// What System, Vm, Vcpu and Device have in common: one descriptor, and calls on it.
class Handle {
  public:
    /// The descriptor, for a call that this library does not have. Any thread.
    [[nodiscard]] const Fd& fd() const noexcept { return fd_; }

  protected:
    explicit Handle(Fd fd) noexcept : fd_(std::move(fd)) {}

    /// No argument; gives the call's own result.
    [[nodiscard]] Result<int> value(Request request) const {
        return detail::ioctl(fd_, request, nullptr);
    }
    /// A number for an argument; gives the call's own result.
    [[nodiscard]] Result<int> value(Request request, std::uint64_t argument) const {
        return detail::ioctl_value(fd_, request, argument);
    }
    /// The same two where the result says nothing.
    [[nodiscard]] Result<void> command(Request request) const {
        return value(request).map([](int) {});
    }
    [[nodiscard]] Result<void> command(Request request, std::uint64_t argument) const {
        return value(request, argument).map([](int) {});
    }
    /// The kernel fills a T.
    template <typename T>
    [[nodiscard]] Result<T> out(RequestOf<T> request) const {
        return inout<T>(request, T{});
    }
    /// The kernel reads a T; gives the call's own result.
    template <typename T>
    [[nodiscard]] Result<int> in(RequestOf<T> request, const T& argument) const {
        T copy = argument;  // the ABI takes a pointer to non-const even where it only reads
        return detail::ioctl(fd_, request, &copy);
    }
    /// The same where the result says nothing.
    template <typename T>
    [[nodiscard]] Result<void> set(RequestOf<T> request, const T& argument) const {
        return in<T>(request, argument).map([](int) {});
    }
    /// The kernel reads a T and changes it.
    template <typename T>
    [[nodiscard]] Result<T> inout(RequestOf<T> request, T argument) const {
        return detail::ioctl(fd_, request, &argument).map([&](int) { return argument; });
    }
    /// The kernel reads a header and the elements behind it, whose number the header says.
    template <typename Header, typename Element>
    [[nodiscard]] Result<int> in_array(RequestOf<Header> request, const Header& header,
                                       std::span<const Element> elements) const {
        FlexArray<Header, Element> array(header, elements);
        return detail::ioctl(fd_, request, array.data());
    }
    /// The same, and the kernel changes the elements: gives as many as the call's own result says.
    template <typename Header, typename Element>
    [[nodiscard]] Result<std::vector<Element>> inout_array(
        RequestOf<Header> request, const Header& header, std::span<const Element> elements) const {
        FlexArray<Header, Element> array(header, elements);
        return detail::ioctl(fd_, request, array.data()).map([&](int done) {
            return array.elements(static_cast<std::size_t>(done));
        });
    }
    /// The kernel fills a list whose length it knows: offers room for `room` elements and, where
    /// that is too little (E2BIG) and the kernel says how many there are, asks once more.
    template <typename Element, typename Header>
    [[nodiscard]] Result<std::vector<Element>> out_array(RequestOf<Header> request,
                                                         decltype(Header::count) room) const {
        Header header{};
        header.count = room;
        FlexArray<Header, Element> array(header, header.count);
        Result<int> filled = detail::ioctl(fd_, request, array.data());
        if (!filled && filled.error().code == E2BIG && array.header().count > room) {
            header.count = array.header().count;
            array = FlexArray<Header, Element>(header, header.count);
            filled = detail::ioctl(fd_, request, array.data());
        }
        return filled.map([&](int) { return array.elements(array.header().count); });
    }

    Fd fd_;
};

}  // namespace dirtyring::kvm
