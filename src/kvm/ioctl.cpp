// SPDX-License-Identifier: MIT
#include "dirtyring/kvm/ioctl.hpp"

#include "../sys.hpp"

namespace dirtyring::kvm::detail {

Result<int> ioctl(const Fd& fd, Request request, void* argument) {
    // SAFETY: RequestOf<T> ties the request's number to sizeof(T), and the callers in Handle pass
    // the address of a live T; requests without a size take nullptr here.
    const int result = sys::ioctl(fd.get(), request.number, argument);
    if (result < 0) {
        return fail({-result, request.name, {}, {}});
    }
    return result;
}

Result<int> ioctl_value(const Fd& fd, Request request, std::uint64_t value) {
    // SAFETY: a request without a struct takes the argument as a number and never follows it.
    // NOLINTNEXTLINE(performance-no-int-to-ptr): that is how ioctl passes a number.
    const int result = sys::ioctl(fd.get(), request.number, reinterpret_cast<void*>(value));
    if (result < 0) {
        return fail(
            {-result, std::string(request.name) + "(" + std::to_string(value) + ")", {}, {}});
    }
    return result;
}

}  // namespace dirtyring::kvm::detail
