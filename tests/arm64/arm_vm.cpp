// SPDX-License-Identifier: MIT
#include "arm_vm.hpp"

#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>
#include <system_error>
#include <variant>

#include "guest.hpp"
#include "must.hpp"

namespace dirtyring::arm64 {

namespace {

constexpr std::uint64_t memory_size = low_size + high_size;
constexpr std::uint64_t code_address = memory_begin;
constexpr std::uint64_t table_address = memory_begin + page_size;
constexpr std::uint64_t report_address = std::uint64_t{1} << 28;  // no slot is there

// A translation table of two entries of 1 GiB each, in which every address is itself: devices, and
// memory. Without one a guest's writes would go past the caches, and on real hardware the host
// would not see them.
constexpr std::uint64_t block = 1 | 1 << 10;               // valid, accessed
constexpr std::uint64_t device = block | 0 << 2;           // the first attributes of `attributes`
constexpr std::uint64_t normal = block | 1 << 2 | 3 << 8;  // the second, inner shareable
constexpr std::uint64_t attributes = 0xff00;               // device-nGnRnE; write-back
// Addresses of 39 bits from a first table of level 1, walked through the caches, 4 KiB pages; no
// second range. Physical addresses of 36 bits.
constexpr std::uint64_t translation =
    25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | std::uint64_t{1} << 32;
constexpr std::uint64_t mmu_and_caches = 1 | 1 << 2 | 1 << 12;

constexpr std::uint64_t core = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE;

constexpr std::uint64_t general(std::uint64_t number) {
    return core | (offsetof(kvm_regs, regs.regs) / 4 + number * 2);
}
constexpr std::uint64_t pc = core | offsetof(kvm_regs, regs.pc) / 4;
constexpr std::uint64_t sctlr_el1 = ARM64_SYS_REG(3, 0, 1, 0, 0);
constexpr std::uint64_t ttbr0_el1 = ARM64_SYS_REG(3, 0, 2, 0, 0);
constexpr std::uint64_t tcr_el1 = ARM64_SYS_REG(3, 0, 2, 0, 2);
constexpr std::uint64_t mair_el1 = ARM64_SYS_REG(3, 0, 10, 2, 0);

std::uint64_t get(const kvm::Vcpu& vcpu, std::uint64_t id) {
    std::uint64_t value = 0;
    must(vcpu.get_one_reg(id, std::as_writable_bytes(std::span(&value, 1))));
    return value;
}

void set(const kvm::Vcpu& vcpu, std::uint64_t id, std::uint64_t value) {
    must(vcpu.set_one_reg(id, std::as_bytes(std::span(&value, 1))));
}

std::byte* map_memory() {
    // SAFETY: fresh memory of the kernel's choosing, that only ArmVm knows and unmaps.
    void* memory =
        ::mmap(nullptr, memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        throw std::system_error(errno, std::generic_category(), "mmap");
    }
    return static_cast<std::byte*>(memory);
}

// The library has no call of its own for it.
void init(const kvm::Vm& vm, const kvm::Vcpu& vcpu) {
    kvm_vcpu_init target{};
    // SAFETY (both): the request's argument is a kvm_vcpu_init.
    if (::ioctl(vm.fd().get(), KVM_ARM_PREFERRED_TARGET, &target) != 0 ||
        ::ioctl(vcpu.fd().get(), KVM_ARM_VCPU_INIT, &target) != 0) {
        throw std::system_error(errno, std::generic_category(), "KVM_ARM_VCPU_INIT");
    }
}

}  // namespace

void ArmVm::Unmap::operator()(std::byte* memory) const noexcept {
    ::munmap(memory, memory_size);
}

ArmVm::ArmVm(const kvm::System& system, const Config& config)
    : config_(config), host_(map_memory()), vm_(must(system.create_vm())) {
    if (config.ring_entries != 0) {
        must(vm_.enable_dirty_ring(config.ring_entries));
    }
    if (config.ring_bitmap) {
        must(vm_.enable_dirty_ring_bitmap());
    }
    if (config.manual_protect) {
        kvm_enable_cap manual{};
        manual.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
        manual.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
        must(vm_.enable_cap(manual));
    }
    add_slot(low_slot, memory_begin, low_size);
    add_slot(high_slot, high_begin, high_size);
    std::memcpy(host(code_address), guest_code().data(), guest_code().size());
    const std::uint64_t table[] = {device, memory_begin | normal};
    std::memcpy(host(table_address), table, sizeof table);
}

void ArmVm::add_slot(std::uint32_t slot, std::uint64_t begin, std::uint64_t size) {
    const MemorySlot added{.slot = slot, .guest_address = begin, .size = size, .host = host(begin)};
    must(vm_.set_user_memory_region(added.region(KVM_MEM_LOG_DIRTY_PAGES)));
    must(map_.add(added));
}

std::byte* ArmVm::host(std::uint64_t guest_address) const {
    return host_.get() + (guest_address - memory_begin);
}

void ArmVm::make_vcpus() {
    for (std::uint32_t number = 0; number < config_.vcpus; ++number) {
        kvm::Vcpu vcpu = must(vm_.create_vcpu(number));
        init(vm_, vcpu);
        start(vcpu, number);
        kvm::Run run = must(kvm::Run::map(vcpu));
        cpus_.push_back({std::move(vcpu), std::move(run)});
    }
}

void ArmVm::start(const kvm::Vcpu& vcpu, std::uint32_t number) const {
    set(vcpu, mair_el1, attributes);
    set(vcpu, tcr_el1, translation);
    set(vcpu, ttbr0_el1, table_address);
    set(vcpu, sctlr_el1, get(vcpu, sctlr_el1) | mmu_and_caches);
    set(vcpu, pc, code_address);
    set(vcpu, general(0), written_begin);
    set(vcpu, general(1), written_pages - 1);
    set(vcpu, general(2), number + 1);
    set(vcpu, general(3), 0);
    set(vcpu, general(4), std::uint64_t{number} * 8);
    set(vcpu, general(5), config_.writes);
    set(vcpu, general(6), report_address);
}

Ring ArmVm::map_ring(std::uint32_t vcpu) const {
    return must(Ring::map(cpus_[vcpu].vcpu));
}

std::uint64_t ArmVm::run_round(std::uint32_t vcpu, RingSource* rings) {
    for (;;) {
        const kvm::Exit exit = must(cpus_[vcpu].run.run());
        if (std::holds_alternative<kvm::RingFullExit>(exit) && rings != nullptr) {
            must(rings->ring_full(vcpu));
        } else if (const auto* report = std::get_if<kvm::MmioExit>(&exit);
                   report != nullptr && report->write && report->address == report_address) {
            std::uint64_t written = 0;
            std::memcpy(&written, report->data.data(), sizeof written);
            return written;
        } else if (!std::holds_alternative<kvm::IntrExit>(exit)) {
            throw std::runtime_error("KVM_RUN came back with exit reason " +
                                     std::to_string(cpus_[vcpu].run.raw().exit_reason));
        }
    }
}

}  // namespace dirtyring::arm64
