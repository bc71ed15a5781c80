// SPDX-License-Identifier: MIT
#include "fake_kernel.hpp"

#include <bit>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <utility>

namespace dirtyring::fake {

namespace {

std::atomic_ref<std::uint64_t> content(std::byte* page) {
    // SAFETY: pages are made by allocate, aligned for any scalar, and are a multiple of
    // 4,096 bytes apart; nothing reads or writes their first word in another way.
    return std::atomic_ref(*reinterpret_cast<std::uint64_t*>(page));
}

std::size_t words(std::uint64_t pages) {
    return static_cast<std::size_t>((pages + 63) / 64);
}

bool blocked(int signal) {
    sigset_t mask;
    if (::pthread_sigmask(SIG_SETMASK, nullptr, &mask) != 0) {
        std::abort();
    }
    return sigismember(&mask, signal) == 1;
}

}  // namespace

Kernel::Kernel(Config config) : config_(std::move(config)), look_every_(config_.look_every) {
    for (std::uint32_t i = 0; i < config_.vcpus; ++i) {
        add_vcpu();
    }
    std::uint64_t address = 0;
    for (const Slot& slot : config_.slots) {
        const std::uint64_t bytes = slot.pages * page_size;
        const MemorySlot wanted{slot.slot, address, bytes, allocate(slot.pages)};
        if (!map_.add(wanted)) {
            std::abort();  // the test made a slot that no kernel would
        }
        create(wanted, true);
        address += bytes + 16 * page_size;
    }
}

std::byte* Kernel::allocate(std::uint64_t pages) {
    // Untouched zeros, of which the host has to find only the pages that are written.
    bytes_.emplace_back(static_cast<std::byte*>(std::calloc(pages, page_size)), std::free);
    if (bytes_.back() == nullptr) {
        std::abort();
    }
    return bytes_.back().get();
}

std::uint32_t Kernel::add_vcpu() {
    auto vcpu = std::make_unique<Vcpu>();
    vcpu->ring.resize(config_.log == Log::rings ? config_.entries : 0);
    vcpu->dirty_index = config_.first_index;
    vcpu->reset_index = config_.first_index;
    vcpus_.push_back(std::move(vcpu));
    return static_cast<std::uint32_t>(vcpus_.size()) - 1;
}

void Kernel::answer(faulty::Faults& faults) {
    const auto on = [&faults](unsigned long request, auto handle) {
        faults.on_ioctl(request, [handle](int fd, void* argument) {
            return fd == number ? handle(argument) : -EBADF;
        });
    };
    // SAFETY (all four): the request's number says what its argument points to.
    on(KVM_RESET_DIRTY_RINGS, [this](void*) { return reset(); });
    on(KVM_SET_USER_MEMORY_REGION, [this](void* argument) {
        return set_region(*static_cast<const kvm_userspace_memory_region*>(argument));
    });
    on(KVM_GET_DIRTY_LOG,
       [this](void* argument) { return get_log(*static_cast<const kvm_dirty_log*>(argument)); });
    on(KVM_CLEAR_DIRTY_LOG, [this](void* argument) {
        return clear_log(*static_cast<const kvm_clear_dirty_log*>(argument));
    });
}

std::span<kvm_dirty_gfn> Kernel::ring(std::uint32_t vcpu) {
    return vcpus_[vcpu]->ring;
}

Kernel::Memory* Kernel::find(std::uint32_t slot) {
    return const_cast<Memory*>(std::as_const(*this).find(slot));
}

const Kernel::Memory* Kernel::find(std::uint32_t slot) const {
    for (const Memory& memory : memories_) {
        if (memory.slot.slot == slot) {
            return &memory;
        }
    }
    return nullptr;
}

// The guest
// ---------------------------------------------------------------------------------------------

bool Kernel::write(std::uint32_t vcpu, std::uint32_t slot, std::uint64_t page,
                   std::uint64_t value) {
    Vcpu& self = *vcpus_[vcpu];
    if (self.since_look >= look_every_) {
        if (!may_run(vcpu)) {
            return false;
        }
        self.since_look = 0;
    }
    // Fault, log and store in one piece, as a reset does not end before every vCPU has left the
    // guest once (kvm_flush_remote_tlbs).
    const std::lock_guard lock(mmu_lock_);
    Memory& memory = *find(slot);
    if (memory.logging && memory.armed[page]) {
        if (config_.log == Log::rings) {
            push(vcpu, slot, page);
            ++self.since_look;
        } else {
            memory.dirty[page / 64] |= std::uint64_t{1} << (page % 64);
        }
        memory.armed[page] = false;
    }
    content(memory.slot.host + page * page_size).store(value, std::memory_order_relaxed);
    return true;
}

// kvm_use_dirty_bitmap
bool Kernel::has_bitmap() const {
    return config_.log != Log::rings || config_.with_bitmap;
}

void Kernel::write_without_vcpu(std::uint32_t slot, std::uint64_t page, std::uint64_t value) {
    const std::lock_guard lock(mmu_lock_);
    Memory& memory = *find(slot);
    if (memory.logging && has_bitmap()) {
        memory.dirty[page / 64] |= std::uint64_t{1} << (page % 64);
    }
    content(memory.slot.host + page * page_size).store(value, std::memory_order_relaxed);
}

bool Kernel::may_run(std::uint32_t vcpu) const {
    return dirty_index(vcpu) - reset_index(vcpu) < soft_limit();
}

void Kernel::push(std::uint32_t vcpu, std::uint32_t slot, std::uint64_t page) {
    Vcpu& self = *vcpus_[vcpu];
    const std::uint32_t index = self.dirty_index.load(std::memory_order_relaxed);
    kvm_dirty_gfn& entry = self.ring[index & (config_.entries - 1)];
    store(entry, {slot, page});
    std::atomic_ref(entry.flags).store(KVM_DIRTY_GFN_F_DIRTY, std::memory_order_release);
    self.dirty_index.store(index + 1, std::memory_order_relaxed);
}

std::uint64_t Kernel::read(std::uint32_t slot, std::uint64_t page) const {
    return content(find(slot)->slot.host + page * page_size).load(std::memory_order_relaxed);
}

bool Kernel::armed(std::uint32_t slot, std::uint64_t page) const {
    const std::lock_guard lock(mmu_lock_);
    return find(slot)->armed[page];
}

void Kernel::set_look_every(std::uint32_t pushes) {
    look_every_ = pushes;
}

// Slot and offset are read and written plainly, as in the kernel, so that TSan sees a reader that
// does not acquire before or release after. But an overrun writes over what others are reading.

bool Kernel::overruns() const {
    return look_every_.load(std::memory_order_relaxed) > config_.reserved;
}

RingEntry Kernel::load(kvm_dirty_gfn& entry) const {
    if (!overruns()) {
        return {entry.slot, entry.offset};
    }
    return {std::atomic_ref(entry.slot).load(std::memory_order_relaxed),
            std::atomic_ref(entry.offset).load(std::memory_order_relaxed)};
}

void Kernel::store(kvm_dirty_gfn& entry, RingEntry page) const {
    if (!overruns()) {
        entry.slot = page.slot;
        entry.offset = page.offset;
        return;
    }
    std::atomic_ref(entry.slot).store(page.slot, std::memory_order_relaxed);
    std::atomic_ref(entry.offset).store(page.offset, std::memory_order_relaxed);
}

// Rings
// ---------------------------------------------------------------------------------------------

void Kernel::during_reset(std::uint32_t entries, std::function<void()> act) {
    act_after_ = entries;
    during_reset_ = std::move(act);
}

void Kernel::around_set_region(std::function<void()> act) {
    around_set_region_ = std::move(act);
}

void Kernel::before_clear(std::function<void(const kvm_clear_dirty_log&)> act) {
    before_clear_ = std::move(act);
}

void Kernel::signal_after(std::uint32_t entries) {
    signal_after_ = entries;
}

void Kernel::kill_after(std::uint32_t entries) {
    kill_after_ = entries;
}

std::uint32_t Kernel::dirty_index(std::uint32_t vcpu) const {
    return vcpus_[vcpu]->dirty_index.load(std::memory_order_relaxed);
}

std::uint32_t Kernel::reset_index(std::uint32_t vcpu) const {
    return vcpus_[vcpu]->reset_index.load(std::memory_order_acquire);
}

// Entries that are re-armed together: of one slot, all within 64 pages.
bool Kernel::Batch::take(std::uint32_t entry_slot, std::uint64_t page) {
    if (bits == 0) {
        *this = {entry_slot, page, 1};
        return true;
    }
    const auto step = static_cast<std::int64_t>(page - first);
    if (entry_slot != slot || step >= 64 || step <= -64 || width() - step > 64) {
        return false;
    }
    if (step < 0) {
        bits <<= -step;
        first = page;
    }
    bits |= std::uint64_t{1} << (page - first);
    return true;
}

// kvm_reset_dirty_gfn: a batch that reaches past its slot is dropped whole.
void Kernel::rearm(const Batch& batch) {
    const std::lock_guard lock(mmu_lock_);
    Memory* memory = find(batch.slot);
    const std::uint64_t last = batch.first + static_cast<std::uint64_t>(batch.width()) - 1;
    if (memory == nullptr || last >= memory->slot.pages()) {
        return;
    }
    for (std::uint64_t bits = batch.bits; bits != 0; bits &= bits - 1) {
        memory->armed[batch.first + static_cast<std::uint64_t>(std::countr_zero(bits))] = true;
    }
}

// kvm_dirty_ring_reset; false where a signal ends it, and then the batch under way is forgotten.
bool Kernel::reset_ring(Vcpu& vcpu, std::uint32_t& taken) {
    Batch batch;
    for (;;) {
        if (during_reset_ && taken == act_after_) {
            std::exchange(during_reset_, nullptr)();
        }
        if (taken >= signal_after_ && !blocked(SIGUSR1)) {
            return false;
        }
        const std::uint32_t index = vcpu.reset_index.load(std::memory_order_relaxed);
        kvm_dirty_gfn& entry = vcpu.ring[index & (config_.entries - 1)];
        const std::atomic_ref flags(entry.flags);
        if ((flags.load(std::memory_order_acquire) & KVM_DIRTY_GFN_F_RESET) == 0) {
            break;
        }
        if (taken >= kill_after_) {
            return false;
        }
        const auto [slot, offset] = load(entry);
        flags.store(0, std::memory_order_release);
        vcpu.reset_index.store(index + 1, std::memory_order_release);
        ++taken;
        if (!batch.take(slot, offset)) {
            rearm(batch);
            batch = {slot, offset, 1};
        }
    }
    if (batch.bits != 0) {
        rearm(batch);
    }
    return true;
}

// kvm_vm_ioctl_reset_dirty_pages
int Kernel::reset() {
    if (config_.log != Log::rings) {
        return -EINVAL;
    }
    const std::lock_guard lock(slots_lock_);
    std::uint32_t taken = 0;
    for (const auto& vcpu : vcpus_) {
        if (!reset_ring(*vcpu, taken)) {
            signal_after_ = never;  // delivered on the way back
            kill_after_ = never;
            break;
        }
    }
    ++resets_;
    entries_reset_ += taken;
    return static_cast<int>(taken);
}

// Slots and bitmaps
// -------------------------------------------------------------------------------

void Kernel::create(const MemorySlot& slot, bool logging) {
    Memory memory{slot, logging, {}, {}};
    memory.armed.assign(slot.pages(), true);  // nothing is mapped yet
    memory.dirty.assign(words(slot.pages()), 0);
    memories_.push_back(std::move(memory));
}

void Kernel::change(Memory& memory, const MemorySlot& to, bool logging) {
    const bool moved = std::exchange(memory.slot, to) != to;
    // A move drops all mappings, turning the log on write-protects them.
    if (moved || (logging && !memory.logging)) {
        memory.armed.assign(memory.armed.size(), true);
    }
    if (!logging) {
        memory.dirty.assign(memory.dirty.size(), 0);
    }
    memory.logging = logging;
}

// kvm_set_memory_region
int Kernel::set_region(const kvm_userspace_memory_region& region) {
    const std::lock_guard lock(slots_lock_);
    ++regions_set_;
    Memory* memory = find(region.slot);
    const MemorySlot wanted{region.slot, region.guest_phys_addr, region.memory_size,
                            // SAFETY: the caller's memory for the slot, which stays while the slot
                            // does; where the slot is there already it is only compared.
                            reinterpret_cast<std::byte*>(region.userspace_addr)};
    const bool deletes = wanted.size == 0;
    if ((region.flags & ~std::uint32_t{KVM_MEM_LOG_DIRTY_PAGES}) != 0 ||
        (deletes && memory == nullptr) ||
        // A slot that is there can be moved and have its flags changed, nothing else.
        (!deletes && memory != nullptr &&
         (wanted.size != memory->slot.size || wanted.host != memory->slot.host))) {
        return -EINVAL;
    }
    MemoryMap after = map_;
    if (memory != nullptr && wanted != memory->slot) {
        static_cast<void>(after.remove(wanted.slot));
    }
    if (!deletes && (memory == nullptr || wanted != memory->slot)) {
        if (const Result<void> added = after.add(wanted); !added) {
            return -added.error().code;
        }
    }
    if (around_set_region_) {
        around_set_region_();
    }
    {
        const std::lock_guard mmu(mmu_lock_);
        const bool logging = (region.flags & KVM_MEM_LOG_DIRTY_PAGES) != 0;
        if (deletes) {
            std::erase_if(memories_,
                          [&](const Memory& one) { return one.slot.slot == wanted.slot; });
        } else if (memory == nullptr) {
            create(wanted, logging);
        } else {
            change(*memory, wanted, logging);
        }
        map_ = std::move(after);
    }
    if (around_set_region_) {
        around_set_region_();
    }
    return 0;
}

// kvm_get_dirty_log_protect
int Kernel::get_log(const kvm_dirty_log& log) {
    const std::lock_guard lock(slots_lock_);
    if (!has_bitmap()) {
        return -ENXIO;
    }
    const std::lock_guard mmu(mmu_lock_);
    Memory* memory = find(log.slot);
    if (memory == nullptr || !memory->logging) {
        return -ENOENT;
    }
    // SAFETY: the caller gives room for the slot's pages, rounded up to whole words.
    auto* out = static_cast<std::uint64_t*>(log.dirty_bitmap);
    for (std::size_t i = 0; i < memory->dirty.size(); ++i) {
        out[i] = memory->dirty[i];
        if (config_.log != Log::manual_bitmap) {
            for (std::uint64_t bits = std::exchange(memory->dirty[i], 0); bits != 0;
                 bits &= bits - 1) {
                memory->armed[i * 64 + static_cast<std::size_t>(std::countr_zero(bits))] = true;
            }
        }
    }
    return 0;
}

// kvm_clear_dirty_log_protect
int Kernel::clear_log(const kvm_clear_dirty_log& log) {
    const std::lock_guard lock(slots_lock_);
    ++clears_;
    if (before_clear_) {
        before_clear_(log);
    }
    if (!has_bitmap()) {
        return -ENXIO;
    }
    if (config_.log != Log::manual_bitmap || log.first_page % 64 != 0) {
        return -EINVAL;
    }
    const std::lock_guard mmu(mmu_lock_);
    Memory* memory = find(log.slot);
    if (memory == nullptr || !memory->logging) {
        return -ENOENT;
    }
    const std::uint64_t pages = memory->slot.pages();
    if (log.first_page > pages || log.num_pages > pages - log.first_page ||
        (log.num_pages < pages - log.first_page && log.num_pages % 64 != 0)) {
        return -EINVAL;
    }
    // SAFETY: the caller gives as many bits as num_pages says, rounded up to whole words.
    const auto* bitmap = static_cast<const std::uint64_t*>(log.dirty_bitmap);
    for (std::size_t i = 0; i < words(log.num_pages); ++i) {
        const std::size_t word = log.first_page / 64 + i;
        std::uint64_t bits = memory->dirty[word] & bitmap[i];
        memory->dirty[word] &= ~bits;
        for (; bits != 0; bits &= bits - 1) {
            memory->armed[word * 64 + static_cast<std::size_t>(std::countr_zero(bits))] = true;
        }
    }
    return 0;
}

}  // namespace dirtyring::fake
