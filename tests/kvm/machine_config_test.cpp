// SPDX-License-Identifier: MIT
//
// What a machine is not made from: a sentence for each.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "machine_fixture.hpp"

namespace dirtyring {
namespace {

using machine::Config;
using machine::Machine;

/// These need no KVM: they are refused before it is asked.
class MachineConfigTest : public MachineTest {
  protected:
    void SetUp() override {}

    static void expect_refusal(const Config& config, const std::string& sentence) {
        const Bytes program = code({0xf4});
        const auto machine = Machine::create(config, {"flat", program}, {});
        ASSERT_FALSE(machine) << "made in spite of: " << sentence;
        EXPECT_EQ(machine.error().message(), sentence);
    }

    static std::string load_error(const std::string& path, std::uint64_t memory) {
        const Result<Bytes> file = machine::read_file(path);
        if (!file) {
            return file.error().message();
        }
        const auto machine = Machine::create({.memory = memory}, {path, *file}, {});
        return machine ? "made" : machine.error().message();
    }
};

constexpr std::uint64_t mebibyte = 1 << 20;

TEST_F(MachineConfigTest, Vcpus) {
    expect_refusal({.vcpus = 0}, "make a machine with 0 vCPUs: it has 1 to 32; use 1");
    expect_refusal({.vcpus = 33}, "make a machine with 33 vCPUs: it has 1 to 32; use 32");
}

TEST_F(MachineConfigTest, Memory) {
    expect_refusal({.memory = 0},
                   "make a machine with 0 MiB of memory: guest memory is 8 MiB to "
                   "65536 MiB; use 8 MiB");
    expect_refusal({.memory = 6 * mebibyte},
                   "make a machine with 6 MiB of memory: guest memory is "
                   "8 MiB to 65536 MiB; use 8 MiB");
    expect_refusal({.memory = 65538 * mebibyte},
                   "make a machine with 65538 MiB of memory: guest "
                   "memory is 8 MiB to 65536 MiB; use 65536 MiB");
    expect_refusal(
        {.memory = UINT64_MAX},
        "make a machine with 17592186044415 MiB and 1048575 bytes of memory: guest memory "
        "is 8 MiB to 65536 MiB; use 65536 MiB");
    expect_refusal(
        {.memory = 9 * mebibyte + 1},
        "make a machine with 9 MiB and 1 bytes of memory: guest memory is a multiple of 2 "
        "MiB; use 10 MiB");
}

TEST_F(MachineConfigTest, RingWithManualProtect) {
    expect_refusal({.ring_entries = 4096, .log_dirty = true, .manual_protect = true},
                   "make a machine with a dirty ring and a manually protected bitmap: a VM with "
                   "rings has no bitmap; choose one of them");
}

TEST_F(MachineConfigTest, Privilege) {
    expect_refusal({.privilege = 1},
                   "make a machine whose guest starts in ring 1: it starts in "
                   "ring 3 or ring 0; use 3");
}

TEST_F(MachineConfigTest, Parameters) {
    expect_refusal({.params = {17, {"name", "value"}}},
                   "give a guest 17 parameters: it takes at most 16; leave some out");
    expect_refusal({.params = {{std::string(32, 'n'), "value"}}},
                   "give a guest the parameter \"" + std::string(32, 'n') +
                       "\": its name has 32 bytes, not 1 to 31; use a name that the guest knows");
    expect_refusal({.params = {{"", "value"}}},
                   "give a guest the parameter \"\": its name has 0 bytes, not 1 to 31; use a name "
                   "that the guest knows");
    expect_refusal(
        {.params = {{"name", std::string(96, 'v')}}},
        "give a guest the parameter \"name\": its value has 96 bytes, more than 95; use a "
        "shorter value");
    expect_refusal({.params = {{"name", std::string("a\0b", 3)}}},
                   "give a guest the parameter \"name\": a NUL byte is in it; leave it out");
}

TEST_F(MachineConfigTest, FilesThatAreNoPrograms) {
    const std::filesystem::path directory = std::filesystem::path(testing::TempDir()) /
                                            ("machine_config." + std::to_string(::getpid()));
    std::filesystem::create_directory(directory);
    const std::string path = (directory / "program").string();

    EXPECT_EQ(load_error(path, 8 * mebibyte), "read " + path + ": No such file or directory");
    EXPECT_EQ(load_error(directory.string(), 8 * mebibyte),
              "read " + directory.string() +
                  ": it is not a regular file: Is a directory; give an ELF64 executable or a flat "
                  "binary");
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    EXPECT_EQ(
        load_error(path, 8 * mebibyte),
        "read " + path +
            ": it is not a regular file: Invalid argument; give an ELF64 executable or a flat "
            "binary");
    std::filesystem::remove(path);

    std::ofstream(path).close();
    EXPECT_EQ(load_error(path, 8 * mebibyte),
              "load " + path + ": it is empty; give an ELF64 executable or a flat binary");
    std::filesystem::resize_file(path, 4 * mebibyte + 1);
    EXPECT_EQ(
        load_error(path, 8 * mebibyte),
        "load " + path +
            ": as a flat binary (it does not begin with the ELF magic) of 4194305 bytes it does "
            "not fit into 8 MiB of guest memory; give the guest more memory");
    std::filesystem::resize_file(path, 256 * mebibyte + 1);
    EXPECT_EQ(load_error(path, 8 * mebibyte),
              "read " + path +
                  ": it has 268435457 bytes, 268435456 are allowed: File too large; strip it");
    std::ofstream(path) << "\177ELF and no more";
    EXPECT_EQ(load_error(path, 8 * mebibyte),
              "load " + path +
                  ": it ends inside the ELF header, after 16 of 64 bytes; the file is cut short or "
                  "damaged; build it again");
    std::filesystem::remove_all(directory);
}

// KVM's own rules come through as they are.
using MachineRingTest = MachineTest;

TEST_F(MachineRingTest, RingSizeThatKvmRefuses) {
    const Bytes program = code({0xf4});
    const auto machine =
        Machine::create({.ring_entries = 1000, .log_dirty = true}, {"flat", program}, {});
    ASSERT_FALSE(machine);
    EXPECT_NE(machine.error().message().find("power of two"), std::string::npos)
        << machine.error().message();
}

}  // namespace
}  // namespace dirtyring
