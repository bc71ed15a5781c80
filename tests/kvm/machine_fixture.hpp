// SPDX-License-Identifier: MIT
#pragma once

#include <chrono>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kvm_fixture.hpp"
#include "machine/machine.hpp"
#include "must.hpp"

namespace dirtyring {

/// A test that runs a machine; skipped where there is no KVM.
class MachineTest : public KvmTest {
  protected:
    using Bytes = std::vector<std::byte>;

    /// Far more than any test needs, on emulated hardware and under a sanitizer too.
    static constexpr std::chrono::minutes limit{5};

    /// The file of one of our guest programs.
    static std::string guest_path(const std::string& name) {
        return (std::filesystem::path(DIRTYRING_GUESTS) / name).string();
    }

    static std::unique_ptr<machine::Machine> make(const std::string& guest,
                                                  const machine::Config& config,
                                                  machine::Callbacks callbacks = {}) {
        const Bytes file = must(machine::read_file(guest_path(guest)));
        return must(machine::Machine::create(config, {guest, file}, std::move(callbacks)));
    }

    /// A flat binary of this machine code.
    static Bytes code(std::initializer_list<std::uint8_t> bytes) {
        Bytes copy(bytes.size());
        std::memcpy(copy.data(), bytes.begin(), bytes.size());
        return copy;
    }

    static std::unique_ptr<machine::Machine> make_flat(
        std::initializer_list<std::uint8_t> instructions, const machine::Config& config = {},
        machine::Callbacks callbacks = {}) {
        return must(
            machine::Machine::create(config, {"flat", code(instructions)}, std::move(callbacks)));
    }

    /// How each vCPU ended; if one does not in time, the test fails and the machine is stopped.
    static std::vector<machine::End> wait(machine::Machine& machine) {
        std::optional<std::vector<machine::End>> ends = machine.wait_done(limit);
        if (!ends) {
            ADD_FAILURE() << "the guest did not end within " << limit.count() << " minutes";
            machine.stop();
            return machine.wait_done();
        }
        return std::move(*ends);
    }

    static std::vector<machine::End> run(machine::Machine& machine) {
        must(machine.start());
        return wait(machine);
    }

    /// The exit status of vCPU `index`; the test fails if it ended in another way.
    static std::uint32_t status(const std::vector<machine::End>& ends, std::uint32_t index = 0) {
        const auto* exited = std::get_if<machine::Exited>(&ends.at(index));
        if (exited == nullptr) {
            ADD_FAILURE() << machine::describe(index, ends.at(index));
            return ~std::uint32_t{0};
        }
        return exited->status;
    }

    static void expect_success(const std::vector<machine::End>& ends) {
        for (std::uint32_t i = 0; i < ends.size(); ++i) {
            EXPECT_TRUE(machine::succeeded(ends[i])) << machine::describe(i, ends[i]);
        }
    }

    /// A word of guest memory that the guest may be changing.
    static std::uint64_t word(machine::Machine& machine, std::uint64_t address) {
        const auto* byte = machine.bytes().subspan(address, sizeof(std::uint64_t)).data();
        // SAFETY: an aligned word inside guest memory; volatile, as the guest changes it unseen by
        // the compiler.
        return *reinterpret_cast<const volatile std::uint64_t*>(byte);
    }
};

}  // namespace dirtyring
