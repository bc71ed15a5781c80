// SPDX-License-Identifier: MIT
//
// The other side of dirty tracking, in plain memory: what virt/kvm/dirty_ring.c (Linux 6.17) does
// to a ring, what kvm_main.c does to a dirty bitmap, and as much of an MMU as it takes to say which
// write is logged. It answers the ioctls that the library makes through faulty_sys.hpp.
//
// A page is either armed, and then the next write to it is logged and disarms it, or it is not, and
// then nobody learns of a write.
#pragma once

#include <linux/kvm.h>

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "dirtyring/kvm/fd.hpp"
#include "dirtyring/memory.hpp"
#include "dirtyring/ring.hpp"
#include "faulty_sys.hpp"

namespace dirtyring::fake {

enum class Log {
    rings,
    bitmap,        ///< KVM_GET_DIRTY_LOG re-arms
    manual_bitmap  ///< with KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2
};

struct Slot {
    std::uint32_t slot;  ///< address space << 16 | slot id
    std::uint64_t pages;
};

struct Config {
    std::uint32_t vcpus = 1;
    std::uint32_t entries = 256;  ///< of each ring, a power of two
    /// Entries above the soft limit: KVM_DIRTY_RING_RSVD_ENTRIES, and 512 more on a host with PML.
    std::uint32_t reserved = 64;
    /// A vCPU looks at the soft limit before it enters the guest, which a stock kernel makes it do
    /// after each page that it logs. kvm_pvm lets a guest in ring 0 log more in between: a number
    /// above `reserved` overruns a ring.
    std::uint32_t look_every = 1;
    /// Where the kernel's own indices begin, a multiple of `entries`.
    std::uint32_t first_index = 0;
    Log log = Log::rings;
    /// Beside the rings: KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP.
    bool with_bitmap = false;
    std::vector<Slot> slots = {{0, 1024}};
};

/// One VM. write() for one vCPU, and each ioctl, may be called by one thread, all of them at the
/// same time; everything else with no other call under way. A page that is asked for must be in a
/// slot.
class Kernel {
  public:
    explicit Kernel(Config config);
    Kernel(const Kernel&) = delete;
    Kernel& operator=(const Kernel&) = delete;

    /// From now on and for the life of `faults` the VM's ioctls come here.
    void answer(faulty::Faults& faults);
    [[nodiscard]] static kvm::Fd fd() { return kvm::Fd::borrow(number); }

    /// The VM's slots; with zeroed memory behind those that it was made with.
    [[nodiscard]] const MemoryMap& memory() const { return map_; }
    /// Zeroed memory for a slot that KVM_SET_USER_MEMORY_REGION makes. It stays, as all of it does,
    /// also when the slot goes.
    [[nodiscard]] std::byte* allocate(std::uint64_t pages);
    /// KVM_SET_USER_MEMORY_REGION; its result, or -errno.
    int set_region(const kvm_userspace_memory_region& region);
    /// Makes one more vCPU; gives its number. None ever goes: one that the test does not run again
    /// is what a closed descriptor leaves in a VM.
    std::uint32_t add_vcpu();
    /// What the vCPU's descriptor would map.
    [[nodiscard]] std::span<kvm_dirty_gfn> ring(std::uint32_t vcpu);

    /// KVM_RUN as far as the guest's store of `value` into a page. False: it came back with
    /// KVM_EXIT_DIRTY_RING_FULL before the store, and will, until a reset has made room.
    bool write(std::uint32_t vcpu, std::uint32_t slot, std::uint64_t page, std::uint64_t value = 1);
    /// Whether KVM_RUN would enter the guest rather than come back with KVM_EXIT_DIRTY_RING_FULL.
    [[nodiscard]] bool may_run(std::uint32_t vcpu) const;
    /// kvm_dirty_ring_push with nothing looked at before.
    void push(std::uint32_t vcpu, std::uint32_t slot, std::uint64_t page);
    /// A write by KVM itself with no vCPU running, as arm64 makes: no page fault, no ring.
    void write_without_vcpu(std::uint32_t slot, std::uint64_t page, std::uint64_t value);
    /// What the last write left in a page.
    [[nodiscard]] std::uint64_t read(std::uint32_t slot, std::uint64_t page) const;
    [[nodiscard]] bool armed(std::uint32_t slot, std::uint64_t page) const;
    void set_look_every(std::uint32_t pushes);

    /// Called once, by the first KVM_RESET_DIRTY_RINGS to have taken `entries` entries, 0 or more:
    /// what the vCPUs do in the middle of it. Null for nothing.
    void during_reset(std::uint32_t entries, std::function<void()> act);
    /// Called by each KVM_SET_USER_MEMORY_REGION before and after it changes a slot.
    void around_set_region(std::function<void()> act);
    /// Called by each KVM_CLEAR_DIRTY_LOG before it does anything: what the vCPUs do between a
    /// KVM_GET_DIRTY_LOG and it.
    void before_clear(std::function<void(const kvm_clear_dirty_log&)> act);
    /// SIGUSR1 becomes pending when the next reset has taken so many entries; it ends there, unless
    /// its thread blocks the signal.
    void signal_after(std::uint32_t entries);
    /// The same with a signal that no thread can block, if there are more entries to take. (One
    /// that comes after the last entry leaves a batch behind, too, and nothing tells that from a
    /// whole reset.)
    void kill_after(std::uint32_t entries);

    [[nodiscard]] std::uint32_t dirty_index(std::uint32_t vcpu) const;
    [[nodiscard]] std::uint32_t reset_index(std::uint32_t vcpu) const;
    [[nodiscard]] std::uint32_t soft_limit() const { return config_.entries - config_.reserved; }
    /// Calls of KVM_RESET_DIRTY_RINGS, and what they gave in all.
    [[nodiscard]] std::uint64_t resets() const { return resets_; }
    [[nodiscard]] std::uint64_t entries_reset() const { return entries_reset_; }
    /// Calls of KVM_CLEAR_DIRTY_LOG.
    [[nodiscard]] std::uint64_t clears() const { return clears_; }
    /// Calls of KVM_SET_USER_MEMORY_REGION.
    [[nodiscard]] std::uint64_t regions_set() const { return regions_set_; }

    /// The VM's descriptor; no file has it.
    static constexpr int number = 1'000'000;

  private:
    struct Vcpu {
        std::vector<kvm_dirty_gfn> ring;
        std::atomic<std::uint32_t> dirty_index;
        std::atomic<std::uint32_t> reset_index;
        std::uint32_t since_look = 0;  // pushes
    };
    struct Memory {
        MemorySlot slot;
        bool logging = true;
        std::vector<bool> armed;
        std::vector<std::uint64_t> dirty;  // for the bitmaps
    };
    using Bytes = std::unique_ptr<std::byte[], decltype(&std::free)>;

    struct Batch {
        std::uint32_t slot = 0;
        std::uint64_t first = 0;
        std::uint64_t bits = 0;  // pages from `first` on

        bool take(std::uint32_t entry_slot, std::uint64_t page);
        [[nodiscard]] int width() const { return 64 - std::countl_zero(bits); }
    };

    [[nodiscard]] Memory* find(std::uint32_t slot);
    [[nodiscard]] const Memory* find(std::uint32_t slot) const;
    [[nodiscard]] bool has_bitmap() const;
    [[nodiscard]] bool overruns() const;
    [[nodiscard]] RingEntry load(kvm_dirty_gfn& entry) const;
    void store(kvm_dirty_gfn& entry, RingEntry page) const;
    void rearm(const Batch& batch);
    bool reset_ring(Vcpu& vcpu, std::uint32_t& taken);
    int reset();
    void create(const MemorySlot& slot, bool logging);
    void change(Memory& memory, const MemorySlot& to, bool logging);
    int get_log(const kvm_dirty_log& log);
    int clear_log(const kvm_clear_dirty_log& log);

    const Config config_;
    MemoryMap map_;
    std::vector<std::unique_ptr<Vcpu>> vcpus_;
    std::atomic<std::uint32_t> look_every_;

    std::mutex slots_lock_;        // kvm->slots_lock: one reset or change of a slot at a time
    mutable std::mutex mmu_lock_;  // kvm->mmu_lock: what is armed, and each fault and re-arming
    std::vector<Memory> memories_;
    std::vector<Bytes> bytes_;  // behind all slots that ever were

    std::uint32_t act_after_ = 0;
    std::function<void()> during_reset_;
    std::function<void()> around_set_region_;
    std::function<void(const kvm_clear_dirty_log&)> before_clear_;
    static constexpr std::uint32_t never = ~std::uint32_t{0};
    std::uint32_t signal_after_ = never;
    std::uint32_t kill_after_ = never;
    std::atomic<std::uint64_t> resets_ = 0;
    std::atomic<std::uint64_t> entries_reset_ = 0;
    std::atomic<std::uint64_t> clears_ = 0;
    std::atomic<std::uint64_t> regions_set_ = 0;
};

}  // namespace dirtyring::fake
