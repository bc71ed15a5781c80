// SPDX-License-Identifier: MIT
#include "dirtyring/source/make_source.hpp"

#include <cerrno>
#include <utility>

#include "dirtyring/source/bitmap_source.hpp"
#include "dirtyring/source/ring_source.hpp"

namespace dirtyring {

namespace {

struct Choice {
    Tracking way;
    const char* why;
};

/// Null where the kernel has it, or what it does not have.
const char* lacks(const VmFacilities& host, Tracking way) {
    switch (way) {
        case Tracking::ring:
            return host.largest_ring() == 0 ? "dirty rings" : nullptr;
        case Tracking::ring_with_bitmap:
            return host.largest_ring() == 0 || !host.ring_with_bitmap
                       ? "dirty rings with a bitmap beside them"
                       : nullptr;
        case Tracking::manual_bitmap:
            return (host.manual_protect & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) == 0
                       ? "a bitmap with manual protection"
                       : nullptr;
        case Tracking::bitmap:
            break;
    }
    return nullptr;
}

Choice choose(const VmFacilities& host) {
    constexpr Choice best_first[] = {
        {Tracking::ring_with_bitmap,
         "the rings tell which vCPU wrote, and the bitmap has what is written without a vCPU"},
        {Tracking::ring,
         "its cost follows the pages written, not the size of memory, and it tells which vCPU "
         "wrote"},
        {Tracking::manual_bitmap,
         "this kernel has no rings, and of the bitmaps this one re-arms only what was read"},
    };
    for (const Choice& choice : best_first) {
        if (lacks(host, choice.way) == nullptr) {
            return choice;
        }
    }
    return {Tracking::bitmap, "this kernel has neither rings nor a bitmap with manual protection"};
}

Result<void> check(const VmFacilities& host, Tracking way) {
    if (const char* what = lacks(host, way)) {
        return fail({EOPNOTSUPP, std::string("track by ") + name(way),
                     std::string("this kernel's KVM does not have ") + what,
                     "leave the way open, or ask for one that `dirtyring probe` calls usable"});
    }
    return {};
}

Result<std::unique_ptr<Source>> enable_rings(kvm::Vm& vm, RingBackup backup,
                                             const MemoryMap& memory, std::uint32_t entries) {
    Result<void> enabled = vm.enable_dirty_ring(entries);
    if (enabled && backup == RingBackup::bitmap) {
        enabled = vm.enable_dirty_ring_bitmap();
    }
    if (!enabled) {
        return fail(std::move(enabled.error()));
    }
    return std::make_unique<RingSource>(vm.fd(), memory, backup);
}

Result<std::unique_ptr<Source>> enable(kvm::Vm& vm, const VmFacilities& host, Tracking way,
                                       const MemoryMap& memory, std::uint32_t entries) {
    if (way == Tracking::ring || way == Tracking::ring_with_bitmap) {
        return enable_rings(vm, way == Tracking::ring ? RingBackup::none : RingBackup::bitmap,
                            memory, entries == 0 ? host.largest_ring() : entries);
    }
    const bool manual = way == Tracking::manual_bitmap;
    if (manual) {
        kvm_enable_cap request{};
        request.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
        request.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
        if (Result<void> enabled = vm.enable_cap(request); !enabled) {
            return fail(std::move(enabled.error()));
        }
    }
    return std::make_unique<BitmapSource>(vm.fd(), memory,
                                          manual ? BitmapMode::manual : BitmapMode::automatic);
}

}  // namespace

Result<ChosenSource> make_source(const kvm::Fd& vm, const MemoryMap& memory,
                                 const SourceOptions& options) {
    kvm::Vm adopted = kvm::Vm::adopt(vm.ref());
    const Result<VmFacilities> host = probe(adopted);
    if (!host) {
        return fail(host.error());
    }
    const Choice choice = options.way ? Choice{*options.way, "it was asked for"} : choose(*host);
    if (Result<void> checked = check(*host, choice.way); !checked) {
        return fail(std::move(checked.error()));
    }
    Result<std::unique_ptr<Source>> source =
        enable(adopted, *host, choice.way, memory, options.ring_entries);
    if (!source) {
        return fail(std::move(source.error()));
    }
    return ChosenSource{std::move(*source), choice.way, choice.why};
}

}  // namespace dirtyring
