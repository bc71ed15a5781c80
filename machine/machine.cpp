// SPDX-License-Identifier: MIT
#include "machine.hpp"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "boot.hpp"
#include "check.hpp"
#include "dirtyring/kvm/run.hpp"
#include "dirtyring/kvm/system.hpp"
#include "kick_signal.hpp"
#include "layout.hpp"
#include "program.hpp"
#include "vcpu_runner.hpp"

namespace dirtyring::machine {

class Machine::Impl {
  public:
    Impl(kvm::Vm vm, GuestMemory&& guest_memory, Callbacks callbacks, std::uint32_t vcpus)
        : vm_(std::move(vm)), shared_(std::move(callbacks), std::move(guest_memory), vcpus) {}
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;
    ~Impl() { shared_.stop(); }

    Result<void> add_slots(bool log_dirty);
    Result<void> add_vcpus(const kvm::System& system, const Config& config, std::uint64_t entry);
    Result<void> start();

    // Members go in reverse order: the vCPUs' threads, then what they use.
    kvm::Vm vm_;
    Shared shared_;
    MemoryMap map_;
    std::vector<std::unique_ptr<VcpuRunner>> runners_;

  private:
    Result<void> add_slot(std::uint32_t id, std::span<std::byte> memory, std::uint64_t address,
                          bool log_dirty);
};

Result<void> Machine::Impl::add_slots(bool log_dirty) {
    const std::span<std::byte> memory = shared_.memory.bytes();
    const std::uint64_t low = std::min<std::uint64_t>(memory.size(), layout::low_memory_end);
    Result<void> added = add_slot(0, memory.first(low), 0, log_dirty);
    if (added && low < memory.size()) {
        added = add_slot(1, memory.subspan(low), layout::high_memory_start, log_dirty);
    }
    return added;
}

Result<void> Machine::Impl::add_slot(std::uint32_t id, std::span<std::byte> memory,
                                     std::uint64_t address, bool log_dirty) {
    const MemorySlot slot{id, address, memory.size(), memory.data()};
    return vm_.set_user_memory_region(slot.region(log_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0))
        .and_then([&] { return map_.add(slot); });
}

Result<void> Machine::Impl::add_vcpus(const kvm::System& system, const Config& config,
                                      std::uint64_t entry) {
    const Result<std::vector<kvm_cpuid_entry2>> cpuid = system.get_supported_cpuid();
    if (!cpuid) {
        return fail(cpuid.error());
    }
    for (std::uint32_t index = 0; index < config.vcpus; ++index) {
        Result<kvm::Vcpu> vcpu = vm_.create_vcpu(index);
        if (!vcpu) {
            return fail(std::move(vcpu.error()));
        }
        if (Result<void> set = vcpu->set_cpuid2(*cpuid); !set) {
            return set;
        }
        if (Result<void> set = set_registers(*vcpu, index, config, entry); !set) {
            return set;
        }
        Result<kvm::Run> run = kvm::Run::map(*vcpu);
        if (!run) {
            return fail(std::move(run.error()));
        }
        runners_.push_back(
            std::make_unique<VcpuRunner>(index, std::move(*vcpu), std::move(*run), shared_));
    }
    return {};
}

Result<void> Machine::Impl::start() {
    if (Result<void> begun = shared_.gate.begin(); !begun) {
        return begun;
    }
    for (std::uint32_t i = 0; i < runners_.size(); ++i) {
        Result<void> started = runners_[i]->start();
        if (!started) {
            for (; i < runners_.size(); ++i) {
                shared_.end(i, Failed{started.error()});
            }
            return started;
        }
    }
    return {};
}

Machine::Machine(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Machine::~Machine() = default;

namespace {

Result<kvm::Vm> make_vm(const kvm::System& system, const Config& config) {
    Result<kvm::Vm> vm = system.create_vm();
    if (!vm) {
        return vm;
    }
    if (Result<void> enough = check_vcpus(*vm, config); !enough) {
        return fail(std::move(enough.error()));
    }
    // Three pages below 4 GiB that KVM on Intel wants for itself (api.rst 4.36), away from all
    // slots.
    constexpr std::uint64_t tss_address = 0xfffb'd000;
    if (Result<void> set = vm->set_tss_addr(tss_address); !set) {
        return fail(std::move(set.error()));
    }
    if (config.ring_entries != 0) {
        if (Result<void> enabled = vm->enable_dirty_ring(config.ring_entries); !enabled) {
            return fail(std::move(enabled.error()));
        }
    }
    if (config.manual_protect) {
        kvm_enable_cap request{};
        request.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2;
        request.args[0] = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
        if (Result<void> enabled = vm->enable_cap(request); !enabled) {
            return fail(std::move(enabled.error()));
        }
    }
    return vm;
}

Result<GuestMemory> make_memory(const Config& config, const Image& image) {
    if (!config.filled.empty()) {
        return GuestMemory::borrow(config.filled);
    }
    Result<GuestMemory> memory = GuestMemory::map(config.memory, config.huge_pages);
    if (memory) {
        place(image, *memory);
        write_tables(*memory, config);
    }
    return memory;
}

}  // namespace

Result<std::unique_ptr<Machine>> Machine::create(const Config& config, const Program& program,
                                                 Callbacks callbacks) {
    if (Result<void> checked = check(config); !checked) {
        return fail(std::move(checked.error()));
    }
    const Result<Image> image = parse_program(program, config.memory);
    if (!image) {
        return fail(image.error());
    }
    Result<kvm::System> system = kvm::System::open();
    if (!system) {
        return fail(std::move(system.error()));
    }
    Result<kvm::Vm> vm = make_vm(*system, config);
    if (!vm) {
        return fail(std::move(vm.error()));
    }
    Result<GuestMemory> memory = make_memory(config, *image);
    if (!memory) {
        return fail(std::move(memory.error()));
    }
    auto impl = std::make_unique<Impl>(std::move(*vm), std::move(*memory), std::move(callbacks),
                                       config.vcpus);
    if (Result<void> added = impl->add_slots(config.log_dirty); !added) {
        return fail(std::move(added.error()));
    }
    if (Result<void> added = impl->add_vcpus(*system, config, image->entry); !added) {
        return fail(std::move(added.error()));
    }
    if (config.filled.empty()) {
        // EIO on a host whose TSC is not stable: then there is no frequency to tell.
        const std::uint32_t tsc_khz = impl->runners_.front()->vcpu().get_tsc_khz().value_or(0);
        write_info(impl->shared_.memory, config, image->end(), tsc_khz);
    }
    install_kick_handler();
    return std::unique_ptr<Machine>(new Machine(std::move(impl)));
}

Result<void> Machine::start() {
    return impl_->start();
}

void Machine::pause() {
    impl_->shared_.gate.pause();
}

Result<void> Machine::resume() {
    if (!impl_->shared_.gate.resume()) {
        return fail({EINVAL, "resume the machine", "it is not paused", "call pause first"});
    }
    return {};
}

void Machine::stop() {
    impl_->shared_.stop();
}

void Machine::kick(std::uint32_t vcpu) {
    impl_->shared_.gate.kick(vcpu);
}

std::vector<End> Machine::wait_done() {
    return impl_->shared_.gate.wait_ended();
}

std::optional<std::vector<End>> Machine::wait_done(std::chrono::milliseconds timeout) {
    return impl_->shared_.gate.wait_ended(timeout);
}

std::uint32_t Machine::vcpu_count() const noexcept {
    return static_cast<std::uint32_t>(impl_->runners_.size());
}

kvm::Vm& Machine::vm() noexcept {
    return impl_->vm_;
}

kvm::Vcpu& Machine::vcpu(std::uint32_t index) noexcept {
    return impl_->runners_[index]->vcpu();
}

const MemoryMap& Machine::memory() const noexcept {
    return impl_->map_;
}

std::span<std::byte> Machine::bytes() noexcept {
    return impl_->shared_.memory.bytes();
}

std::uint64_t Machine::memory_bytes() const noexcept {
    return impl_->map_.bytes();
}

Counters Machine::counters(std::uint32_t vcpu) const noexcept {
    return impl_->runners_[vcpu]->counters();
}

std::string Machine::console() const {
    return impl_->shared_.console.text();
}

}  // namespace dirtyring::machine
