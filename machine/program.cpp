// SPDX-License-Identifier: MIT
#include "program.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>

#include "../guests/abi.hpp"
#include "dirtyring/kvm/fd.hpp"
#include "machine.hpp"

namespace dirtyring::machine {

namespace {

constexpr std::size_t max_file_bytes = std::size_t{256} << 20;

}  // namespace

Result<Image> parse_program(const Program& program, std::uint64_t memory) {
    if (is_elf(program.file)) {
        return parse_elf(program.name, program.file, memory);
    }
    const std::string operation = "load " + std::string(program.name);
    if (program.file.empty()) {
        return fail({0, operation, "it is empty", "give an ELF64 executable or a flat binary"});
    }
    if (program.file.size() > memory - guest_abi::link_address) {
        return fail({0, operation,
                     "as a flat binary (it does not begin with the ELF magic) of " +
                         std::to_string(program.file.size()) + " bytes it does not fit into " +
                         std::to_string(memory >> 20) + " MiB of guest memory",
                     "give the guest more memory"});
    }
    return Image{{{guest_abi::link_address, program.file.size(), program.file}},
                 guest_abi::link_address};
}

void place(const Image& image, const GuestMemory& memory) {
    for (const Segment& segment : image.segments) {
        std::ranges::copy(segment.bytes, memory.bytes().subspan(segment.address).begin());
    }
}

Result<std::vector<std::byte>> read_file(const std::string& path) {
    const std::string operation = "read " + path;
    // O_NONBLOCK: a FIFO without a writer must not hold us up before it is refused below.
    const kvm::Fd file = kvm::Fd::own(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (file.get() < 0) {
        return fail({errno, operation, {}, {}});
    }
    struct stat status{};
    if (::fstat(file.get(), &status) < 0) {
        return fail({errno, operation, {}, {}});
    }
    if (!S_ISREG(status.st_mode)) {
        return fail({S_ISDIR(status.st_mode) ? EISDIR : EINVAL, operation,
                     "it is not a regular file", "give an ELF64 executable or a flat binary"});
    }
    if (static_cast<std::uint64_t>(status.st_size) > max_file_bytes) {
        return fail({EFBIG, operation,
                     "it has " + std::to_string(status.st_size) + " bytes, " +
                         std::to_string(max_file_bytes) + " are allowed",
                     "strip it"});
    }
    std::vector<std::byte> bytes(static_cast<std::size_t>(status.st_size));
    std::size_t filled = 0;
    while (filled < bytes.size()) {
        const ssize_t got = ::read(file.get(), bytes.data() + filled, bytes.size() - filled);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fail({errno, operation, {}, {}});
        }
        if (got == 0) {
            break;  // it has become shorter; what there is now is the file
        }
        filled += static_cast<std::size_t>(got);
    }
    bytes.resize(filled);
    return bytes;
}

}  // namespace dirtyring::machine
