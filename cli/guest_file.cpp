// SPDX-License-Identifier: MIT
#include "guest_file.hpp"

#include <cerrno>

#include "builtin_guests.hpp"
#include "machine/machine.hpp"

namespace dirtyring::cli {

Result<GuestFile> load_guest(const std::string& guest) {
    Result<std::vector<std::byte>> read = machine::read_file(guest);
    if (read) {
        return GuestFile{guest, std::move(*read), {}};
    }
    const bool no_file = read.error().code == ENOENT || read.error().code == EISDIR;
    std::string names;
    for (const BuiltinGuest& builtin : builtin_guests()) {
        if (no_file && builtin.name == guest) {
            return GuestFile{guest, {}, builtin.file};
        }
        names += names.empty() ? "" : ", ";
        names += builtin.name;
    }
    if (no_file) {
        read.error().remedy = "give the path of an ELF64 executable or one of " + names;
    }
    return fail(std::move(read.error()));
}

}  // namespace dirtyring::cli
