// SPDX-License-Identifier: MIT
//
// The ELF loader: what a good file gives, the sentence for each way a file can be wrong, and that
// no damage whatever makes it crash or give a segment outside its bounds.
#include "machine/elf.hpp"

#include <elf.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "guests/abi.hpp"

namespace dirtyring::machine {
namespace {

constexpr std::uint64_t memory = std::uint64_t{64} << 20;
constexpr std::uint64_t code_address = guest_abi::link_address;
constexpr std::uint64_t data_address = guest_abi::link_address + 0x10000;
constexpr std::uint64_t bss = 0x3000;

struct File {
    Elf64_Ehdr header{};
    Elf64_Phdr code{};
    Elf64_Phdr data{};
    std::string code_bytes = "code of the program";
    std::string data_bytes = "its data";

    [[nodiscard]] std::vector<std::byte> bytes() const {
        std::vector<std::byte> file;
        const auto append = [&](const void* from, std::size_t length) {
            const auto* first = static_cast<const std::byte*>(from);
            file.insert(file.end(), first, first + length);
        };
        append(&header, sizeof header);
        append(&code, sizeof code);
        append(&data, sizeof data);
        append(code_bytes.data(), code_bytes.size());
        append(data_bytes.data(), data_bytes.size());
        return file;
    }
};

File good_file() {
    File file;
    std::memcpy(file.header.e_ident, ELFMAG, SELFMAG);
    file.header.e_ident[EI_CLASS] = ELFCLASS64;
    file.header.e_ident[EI_DATA] = ELFDATA2LSB;
    file.header.e_ident[EI_VERSION] = EV_CURRENT;
    file.header.e_type = ET_EXEC;
    file.header.e_machine = EM_X86_64;
    file.header.e_version = EV_CURRENT;
    file.header.e_entry = code_address + 4;
    file.header.e_phoff = sizeof(Elf64_Ehdr);
    file.header.e_ehsize = sizeof(Elf64_Ehdr);
    file.header.e_phentsize = sizeof(Elf64_Phdr);
    file.header.e_phnum = 2;
    file.code.p_type = PT_LOAD;
    file.code.p_flags = PF_R | PF_X;
    file.code.p_offset = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr);
    file.code.p_vaddr = code_address;
    file.code.p_filesz = file.code_bytes.size();
    file.code.p_memsz = file.code_bytes.size();
    file.data.p_type = PT_LOAD;
    file.data.p_flags = PF_R | PF_W;
    file.data.p_offset = file.code.p_offset + file.code_bytes.size();
    file.data.p_vaddr = data_address;
    file.data.p_filesz = file.data_bytes.size();
    file.data.p_memsz = bss;
    return file;
}

std::string text_of(std::span<const std::byte> bytes) {
    std::string text(bytes.size(), '\0');
    std::memcpy(text.data(), bytes.data(), bytes.size());
    return text;
}

/// What must hold of every image, however its file came to be.
void expect_in_bounds(const Image& image, std::span<const std::byte> file) {
    ASSERT_FALSE(image.segments.empty());
    std::uint64_t end = guest_abi::reserved;
    bool entry_inside = false;
    for (const Segment& segment : image.segments) {
        ASSERT_GE(segment.address, end) << "below the last segment's end, or reserved memory";
        ASSERT_GT(segment.size, 0U);
        ASSERT_LE(segment.size, memory);
        ASSERT_LE(segment.end(), memory);
        ASSERT_LE(segment.bytes.size(), segment.size);
        ASSERT_GE(segment.bytes.data(), file.data());
        ASSERT_LE(segment.bytes.data() + segment.bytes.size(), file.data() + file.size());
        entry_inside |= image.entry >= segment.address && image.entry < segment.end();
        end = segment.end();
    }
    ASSERT_TRUE(entry_inside);
    ASSERT_EQ(image.end(), end);
}

/// Loads it and expects either an image within bounds or a whole sentence.
void expect_image_or_sentence(std::span<const std::byte> file) {
    const Result<Image> image = parse_elf("the-guest", file, memory);
    if (image) {
        expect_in_bounds(*image, file);
        return;
    }
    const Error& error = image.error();
    ASSERT_EQ(error.operation, "load the-guest");
    ASSERT_FALSE(error.cause.empty());
    ASSERT_FALSE(error.remedy.empty());
}

std::string refusal(const File& file) {
    const std::vector<std::byte> bytes = file.bytes();
    const Result<Image> image = parse_elf("the-guest", bytes, memory);
    return image ? "loaded" : image.error().message();
}

void expect_refusal(const File& file, const std::string& cause) {
    const std::string sentence = refusal(file);
    EXPECT_TRUE(sentence.starts_with("load the-guest: ")) << sentence;
    EXPECT_NE(sentence.find(cause), std::string::npos) << sentence << "\n   lacks: " << cause;
    EXPECT_NE(sentence.find("; "), std::string::npos) << "no remedy in: " << sentence;
}

TEST(Elf, GoodFileGivesItsSegments) {
    const std::vector<std::byte> bytes = good_file().bytes();
    const Result<Image> image = parse_elf("the-guest", bytes, memory);
    ASSERT_TRUE(image) << image.error().message();
    expect_in_bounds(*image, bytes);
    ASSERT_EQ(image->segments.size(), 2U);
    EXPECT_EQ(image->entry, code_address + 4);
    EXPECT_EQ(image->segments[0].address, code_address);
    EXPECT_EQ(text_of(image->segments[0].bytes), "code of the program");
    EXPECT_EQ(image->segments[1].address, data_address);
    EXPECT_EQ(image->segments[1].size, bss);
    EXPECT_EQ(text_of(image->segments[1].bytes), "its data");
    EXPECT_EQ(image->end(), data_address + bss);
}

TEST(Elf, SegmentsComeByAddressWhateverTheFilesOrder) {
    File file = good_file();
    std::swap(file.code, file.data);
    const std::vector<std::byte> bytes = file.bytes();
    const Result<Image> image = parse_elf("the-guest", bytes, memory);
    ASSERT_TRUE(image) << image.error().message();
    expect_in_bounds(*image, bytes);
}

TEST(Elf, SegmentUpToTheLastByteOfMemoryLoads) {
    File file = good_file();
    file.data.p_memsz = memory - data_address;
    EXPECT_EQ(refusal(file), "loaded");
    file.data.p_memsz += 1;
    expect_refusal(file, "does not fit into 64 MiB of guest memory");
}

TEST(Elf, EmptySegmentsAndOtherHeadersAreNotLoaded) {
    File file = good_file();
    file.data.p_memsz = 0;
    file.data.p_filesz = 0;
    EXPECT_EQ(refusal(file), "loaded");
    file.data.p_type = PT_GNU_STACK;
    file.data.p_vaddr = 0;
    EXPECT_EQ(refusal(file), "loaded");
}

TEST(Elf, RefusesWhatIsNotAStaticExecutableForThisMachine) {
    File file = good_file();
    file.header.e_ident[0] = 'M';
    expect_refusal(file, "does not begin with the ELF magic");

    file = good_file();
    file.header.e_ident[EI_CLASS] = ELFCLASS32;
    expect_refusal(file, "not a 64-bit little-endian ELF file for x86-64");
    file = good_file();
    file.header.e_ident[EI_DATA] = ELFDATA2MSB;
    expect_refusal(file, "not a 64-bit little-endian ELF file for x86-64");
    file = good_file();
    file.header.e_machine = EM_AARCH64;
    expect_refusal(file, "not a 64-bit little-endian ELF file for x86-64");

    file = good_file();
    file.header.e_ident[EI_VERSION] = 0;
    expect_refusal(file, "ELF version is not 1");
    file = good_file();
    file.header.e_version = 2;
    expect_refusal(file, "ELF version is not 1");

    file = good_file();
    file.header.e_type = ET_DYN;
    expect_refusal(file, "not an executable at a fixed address (ELF type 3, not 2)");
    file = good_file();
    file.data.p_type = PT_INTERP;
    expect_refusal(file, "needs a dynamic linker");
}

TEST(Elf, RefusesProgramHeadersOutsideTheFile) {
    File file = good_file();
    file.header.e_phnum = 0;
    expect_refusal(file, "no program headers");
    file = good_file();
    file.header.e_phnum = 0xffff;
    expect_refusal(file, "65535 program headers at byte 64 reach past the file's end");
    file = good_file();
    file.header.e_phoff = file.bytes().size() - 1;
    expect_refusal(file, "reach past the file's end");
    file.header.e_phoff = UINT64_MAX;
    expect_refusal(file, "reach past the file's end");
    file.header.e_phoff = UINT64_MAX - sizeof(Elf64_Phdr);
    expect_refusal(file, "reach past the file's end");
    file = good_file();
    file.header.e_phentsize = 32;
    expect_refusal(file, "program headers are 32 bytes each, not 56");
}

TEST(Elf, RefusesSegmentsOutsideTheFile) {
    File file = good_file();
    file.data.p_offset += 1;
    expect_refusal(file, "its segment at 0x410000 (8 bytes at byte 196) reaches past the file's");
    file.data.p_offset = UINT64_MAX - 3;
    expect_refusal(file, "reaches past the file's end");
    file = good_file();
    file.data.p_filesz = bss + 1;
    expect_refusal(file, "more bytes in the file (12289) than in memory (12288)");
}

TEST(Elf, RefusesSegmentsOutsideGuestMemory) {
    File file = good_file();
    file.data.p_vaddr = guest_abi::reserved - 1;
    expect_refusal(file, "its segment at 0x3fffff lies in the VMM's own memory, below 0x400000");
    file.data.p_vaddr = memory;
    expect_refusal(file, "does not fit into 64 MiB of guest memory");
    file.data.p_vaddr = UINT64_MAX - 1;
    expect_refusal(file, "does not fit into 64 MiB of guest memory");
    file = good_file();
    file.data.p_memsz = UINT64_MAX;
    expect_refusal(file, "does not fit into 64 MiB of guest memory");
}

TEST(Elf, RefusesOverlapsAndAnEntryInNoSegment) {
    File file = good_file();
    file.data.p_vaddr = code_address + file.code.p_memsz - 1;
    expect_refusal(file, "its segments at 0x400000 and 0x400012 overlap");
    file.data.p_vaddr = code_address + file.code.p_memsz;
    EXPECT_EQ(refusal(file), "loaded");

    file = good_file();
    file.header.e_entry = code_address + file.code.p_memsz;
    expect_refusal(file, "its entry point 0x400013 is in none of its segments");
    file.header.e_entry = data_address + bss;
    expect_refusal(file, "is in none of its segments");

    file = good_file();
    file.code.p_type = PT_NOTE;
    file.data.p_type = PT_NOTE;
    expect_refusal(file, "none of its segments is to be loaded");
}

TEST(Elf, EveryTruncationIsASentence) {
    const std::vector<std::byte> bytes = good_file().bytes();
    for (std::size_t length = 0; length < bytes.size(); ++length) {
        // A copy of just this length, so that a sanitizer sees any read past its end.
        const std::vector<std::byte> cut(bytes.begin(),
                                         bytes.begin() + static_cast<std::ptrdiff_t>(length));
        const Result<Image> image = parse_elf("the-guest", cut, memory);
        ASSERT_FALSE(image) << "loaded with " << length << " of " << bytes.size() << " bytes";
        ASSERT_FALSE(image.error().cause.empty());
        ASSERT_FALSE(image.error().remedy.empty());
    }
}

TEST(Elf, EveryByteSetToEveryValueIsAnImageOrASentence) {
    std::vector<std::byte> bytes = good_file().bytes();
    for (std::byte& byte : bytes) {
        const std::byte kept = byte;
        for (unsigned value = 0; value < 256; ++value) {
            byte = static_cast<std::byte>(value);
            ASSERT_NO_FATAL_FAILURE(expect_image_or_sentence(bytes));
        }
        byte = kept;
    }
}

// Fields are 2, 4 or 8 bytes wide and aligned: this hits each with the values that overflow sums.
TEST(Elf, EveryFieldSetToExtremesIsAnImageOrASentence) {
    const std::vector<std::byte> good = good_file().bytes();
    constexpr std::size_t headers = sizeof(Elf64_Ehdr) + 2 * sizeof(Elf64_Phdr);
    for (const std::size_t width : {2U, 4U, 8U}) {
        for (std::size_t at = 0; at + width <= headers; at += width) {
            for (const std::uint64_t value :
                 {std::uint64_t{0}, std::uint64_t{1}, UINT64_MAX, UINT64_MAX - 1, UINT64_MAX >> 1,
                  (UINT64_MAX >> 1) + 1, UINT64_MAX - memory, memory, memory - 1,
                  std::uint64_t{good.size()}, UINT64_MAX - good.size(), data_address}) {
                std::vector<std::byte> bytes = good;
                std::memcpy(bytes.data() + at, &value, width);
                ASSERT_NO_FATAL_FAILURE(expect_image_or_sentence(bytes));
            }
        }
    }
}

TEST(Elf, RandomDamageIsAnImageOrASentence) {
    const std::vector<std::byte> good = good_file().bytes();
    std::mt19937 random(1);  // NOLINT(cert-msc51-cpp): the same damage in every run
    for (int i = 0; i < 200'000; ++i) {
        std::vector<std::byte> bytes = good;
        for (unsigned damages = 1 + random() % 8; damages > 0; --damages) {
            bytes[random() % bytes.size()] = static_cast<std::byte>(random());
        }
        bytes.resize(bytes.size() - random() % 8);
        ASSERT_NO_FATAL_FAILURE(expect_image_or_sentence(bytes));
    }
}

}  // namespace
}  // namespace dirtyring::machine
