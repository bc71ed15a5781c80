// SPDX-License-Identifier: MIT
#include "elf.hpp"

#include <elf.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "../guests/abi.hpp"
#include "text.hpp"

namespace dirtyring::machine {

namespace {

constexpr const char* relink = "link the guest as guests/CMakeLists.txt does (-static -no-pie)";
constexpr const char* damaged = "the file is cut short or damaged; build it again";

tl::unexpected<Error> refuse(std::string_view name, std::string cause, std::string remedy) {
    return fail({0, "load " + std::string(name), std::move(cause), std::move(remedy)});
}

/// A copy of the T at `offset`, which the caller knows to lie inside the file.
template <typename T>
T read(std::span<const std::byte> file, std::uint64_t offset) {
    T value;
    std::memcpy(&value, file.subspan(offset, sizeof value).data(), sizeof value);
    return value;
}

Result<Elf64_Ehdr> read_header(std::string_view name, std::span<const std::byte> file) {
    if (!is_elf(file)) {
        return refuse(name, "it does not begin with the ELF magic", relink);
    }
    if (file.size() < sizeof(Elf64_Ehdr)) {
        return refuse(name,
                      "it ends inside the ELF header, after " + std::to_string(file.size()) +
                          " of " + std::to_string(sizeof(Elf64_Ehdr)) + " bytes",
                      damaged);
    }
    const auto header = read<Elf64_Ehdr>(file, 0);
    if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
        header.e_machine != EM_X86_64) {
        return refuse(name, "it is not a 64-bit little-endian ELF file for x86-64",
                      "build the guest for x86-64");
    }
    if (header.e_ident[EI_VERSION] != EV_CURRENT || header.e_version != EV_CURRENT) {
        return refuse(name, "its ELF version is not 1", damaged);
    }
    if (header.e_type != ET_EXEC) {
        return refuse(name,
                      "it is not an executable at a fixed address (ELF type " +
                          std::to_string(header.e_type) + ", not 2)",
                      relink);
    }
    return header;
}

Result<std::vector<Elf64_Phdr>> read_program_headers(std::string_view name,
                                                     std::span<const std::byte> file,
                                                     const Elf64_Ehdr& header) {
    if (header.e_phnum == 0) {
        return refuse(name, "it has no program headers, so there is nothing to load", relink);
    }
    if (header.e_phentsize != sizeof(Elf64_Phdr)) {
        return refuse(name,
                      "its program headers are " + std::to_string(header.e_phentsize) +
                          " bytes each, not " + std::to_string(sizeof(Elf64_Phdr)),
                      damaged);
    }
    const std::uint64_t length = std::uint64_t{header.e_phnum} * sizeof(Elf64_Phdr);
    if (header.e_phoff > file.size() || length > file.size() - header.e_phoff) {
        return refuse(name,
                      "its " + std::to_string(header.e_phnum) + " program headers at byte " +
                          std::to_string(header.e_phoff) + " reach past the file's end at " +
                          std::to_string(file.size()),
                      damaged);
    }
    std::vector<Elf64_Phdr> headers(header.e_phnum);
    std::memcpy(headers.data(), file.subspan(header.e_phoff, length).data(), length);
    return headers;
}

Result<Segment> read_segment(std::string_view name, std::span<const std::byte> file,
                             const Elf64_Phdr& header, std::uint64_t memory) {
    const std::string segment = "its segment at " + hex(header.p_vaddr);
    if (header.p_filesz > header.p_memsz) {
        return refuse(name,
                      segment + " has more bytes in the file (" + std::to_string(header.p_filesz) +
                          ") than in memory (" + std::to_string(header.p_memsz) + ")",
                      damaged);
    }
    if (header.p_offset > file.size() || header.p_filesz > file.size() - header.p_offset) {
        return refuse(name,
                      segment + " (" + std::to_string(header.p_filesz) + " bytes at byte " +
                          std::to_string(header.p_offset) + ") reaches past the file's end at " +
                          std::to_string(file.size()),
                      damaged);
    }
    if (header.p_vaddr < guest_abi::reserved) {
        return refuse(name,
                      segment + " lies in the VMM's own memory, below " + hex(guest_abi::reserved),
                      "link the guest at " + hex(guest_abi::link_address) + " or above");
    }
    if (header.p_vaddr > memory || header.p_memsz > memory - header.p_vaddr) {
        return refuse(name,
                      segment + " with " + std::to_string(header.p_memsz) +
                          " bytes does not fit into " + std::to_string(memory >> 20) +
                          " MiB of guest memory",
                      "give the guest more memory");
    }
    return Segment{header.p_vaddr, header.p_memsz, file.subspan(header.p_offset, header.p_filesz)};
}

}  // namespace

bool is_elf(std::span<const std::byte> file) noexcept {
    return file.size() >= SELFMAG && std::memcmp(file.data(), ELFMAG, SELFMAG) == 0;
}

Result<Image> parse_elf(std::string_view name, std::span<const std::byte> file,
                        std::uint64_t memory) {
    const Result<Elf64_Ehdr> header = read_header(name, file);
    if (!header) {
        return fail(header.error());
    }
    const Result<std::vector<Elf64_Phdr>> program_headers =
        read_program_headers(name, file, *header);
    if (!program_headers) {
        return fail(program_headers.error());
    }
    Image image{{}, header->e_entry};
    for (const Elf64_Phdr& program_header : *program_headers) {
        if (program_header.p_type == PT_INTERP) {
            return refuse(name, "it needs a dynamic linker", relink);
        }
        if (program_header.p_type != PT_LOAD || program_header.p_memsz == 0) {
            continue;
        }
        Result<Segment> segment = read_segment(name, file, program_header, memory);
        if (!segment) {
            return fail(std::move(segment.error()));
        }
        image.segments.push_back(*segment);
    }
    if (image.segments.empty()) {
        return refuse(name, "none of its segments is to be loaded", relink);
    }
    std::ranges::sort(image.segments, {}, &Segment::address);
    const auto overlap = std::ranges::adjacent_find(
        image.segments, [](const Segment& a, const Segment& b) { return a.end() > b.address; });
    if (overlap != image.segments.end()) {
        return refuse(name,
                      "its segments at " + hex(overlap->address) + " and " +
                          hex(std::next(overlap)->address) + " overlap",
                      relink);
    }
    const bool entry_loaded = std::ranges::any_of(image.segments, [&](const Segment& segment) {
        return image.entry >= segment.address && image.entry < segment.end();
    });
    if (!entry_loaded) {
        return refuse(name, "its entry point " + hex(image.entry) + " is in none of its segments",
                      "give the guest a _start in its code (ENTRY(_start))");
    }
    return image;
}

}  // namespace dirtyring::machine
