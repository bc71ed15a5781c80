// SPDX-License-Identifier: MIT
#include "boot.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "layout.hpp"

namespace dirtyring::machine {

namespace {

// Numbers below are from the AMD64 and Intel 64 manuals, volumes 2 and 3: "System Resources",
// "Segmented Virtual Memory", "Page Translation", "Exceptions".

constexpr std::uint16_t kernel_code = 1 * 8;
constexpr std::uint16_t kernel_data = 2 * 8;
constexpr std::uint16_t user_data = 3 * 8 | 3;
constexpr std::uint16_t user_code = 4 * 8 | 3;
constexpr std::uint16_t task = 5 * 8;

// Accessed (and a TSS's busy) bits are set from the start: nothing has to write them, so these
// pages are never dirty.
constexpr std::array<std::uint64_t, 7> gdt = {
    0,
    0x00af'9b00'0000'ffff,  // kernel code, 64-bit
    0x00cf'9300'0000'ffff,  // kernel data
    0x00cf'f300'0000'ffff,  // user data
    0x00af'fb00'0000'ffff,  // user code, 64-bit
    0,                      // each vCPU's TSS is set with its registers; nothing loads TR from here
    0,
};

enum PageFlags : std::uint64_t {
    present = 1 << 0,
    writable = 1 << 1,
    user = 1 << 2,
    accessed = 1 << 5,
    dirty = 1 << 6,
    large = 1 << 7,
};
constexpr std::uint64_t table_flags = present | writable | user | accessed;
constexpr std::uint64_t page_flags = present | accessed | dirty;

void write_gdt_and_idt(const GuestMemory& memory) {
    memory.store(layout::gdt, gdt);
    for (std::uint32_t vector = 0; vector < layout::vector_count; ++vector) {
        const std::uint64_t stub = layout::stubs + vector * layout::stub_size;
        // int3 and into may come from ring 3; any other `int` there is a #GP that names its vector.
        const std::uint64_t level = vector == 3 || vector == 4 ? 3 : 0;
        constexpr std::uint64_t interrupt_gate = 0x8e;
        constexpr std::uint64_t ist = 1;
        const std::array<std::uint64_t, 2> gate = {
            (stub & 0xffff) | std::uint64_t{kernel_code} << 16 | ist << 32 |
                (interrupt_gate | level << 5) << 40 | (stub >> 16 & 0xffff) << 48,
            stub >> 32,
        };
        memory.store(layout::idt + vector * sizeof gate, gate);
    }
}

// One vector's stub: tells the VMM, which reads the rest from the stack (fault.cpp).
void write_stub(const GuestMemory& memory, std::uint32_t vector) {
    const std::array<std::uint8_t, 14> code = {
        0x50,  // push %rax
        0x52,  // push %rdx
        0xba, guest_abi::fault_port & 0xff,      guest_abi::fault_port >> 8,
        0,
        0,  // mov $port, %edx
        0xb8, static_cast<std::uint8_t>(vector), 0,
        0,
        0,     // mov $vector, %eax
        0xef,  // out %eax, (%dx)
        0xf4,  // hlt
    };
    static_assert(sizeof code <= layout::stub_size);
    memory.store(layout::stubs + vector * layout::stub_size, code);
}

void write_tss(const GuestMemory& memory, std::uint32_t vcpu) {
    constexpr std::uint64_t rsp0 = 4;
    constexpr std::uint64_t ist1 = 36;
    constexpr std::uint64_t io_map_base = 102;
    memory.store(layout::tss(vcpu) + rsp0, layout::exception_stack_top(vcpu));
    memory.store(layout::tss(vcpu) + ist1, layout::exception_stack_top(vcpu));
    memory.store(layout::tss(vcpu) + io_map_base, static_cast<std::uint16_t>(layout::io_bitmap));
    memory.store(layout::tss(vcpu) + layout::tss_size - 1, std::uint8_t{0xff});
}

void write_page_tables(const GuestMemory& memory, const Config& config) {
    memory.store(layout::pml4, layout::pdpt | table_flags);
    const std::uint64_t directories = (config.memory + (std::uint64_t{1} << 30) - 1) >> 30;
    for (std::uint64_t i = 0; i < directories; ++i) {
        memory.store(layout::pdpt + i * 8,
                     (layout::page_directories + i * layout::page) | table_flags);
    }
    // The directories lie one behind the other, so the entry of granule i is simply the i-th.
    for (std::uint64_t i = 0; i < config.memory / memory_granule; ++i) {
        const std::uint64_t entry =
            i < layout::page_table_count
                ? (layout::page_tables + i * layout::page) | table_flags
                : layout::physical(i * memory_granule) | page_flags | writable | user | large;
        memory.store(layout::page_directories + i * 8, entry);
    }
    // The same holds for the page tables of the VMM's own part.
    const auto map = [&](std::uint64_t address, std::uint64_t flags) {
        memory.store(layout::page_tables + address / layout::page * 8,
                     address | page_flags | flags);
    };
    map(layout::gdt, 0);
    map(layout::idt, 0);
    map(layout::stubs, 0);
    map(layout::info, user);
    for (std::uint32_t vcpu = 0; vcpu < config.vcpus; ++vcpu) {
        map(layout::vcpu_page(vcpu), writable);
        for (std::uint64_t address = layout::stack_bottom(vcpu); address < layout::stack_top(vcpu);
             address += layout::page) {
            map(address, writable | user);
        }
    }
}

kvm_segment segment(std::uint16_t selector, std::uint8_t type, bool code) {
    kvm_segment segment{};
    segment.limit = 0xffff'ffff;
    segment.selector = selector;
    segment.type = type;
    segment.present = 1;
    segment.dpl = selector & 3;
    segment.s = 1;
    segment.l = code ? 1 : 0;
    segment.db = code ? 0 : 1;
    segment.g = 1;
    return segment;
}

kvm_segment task_segment(std::uint32_t vcpu) {
    kvm_segment segment{};
    segment.base = layout::tss(vcpu);
    segment.limit = static_cast<std::uint32_t>(layout::tss_size) - 1;
    segment.selector = task;
    segment.type = 11;  // 64-bit TSS, busy
    segment.present = 1;
    return segment;
}

}  // namespace

void write_tables(const GuestMemory& memory, const Config& config) {
    write_gdt_and_idt(memory);
    for (std::uint32_t vector = 0; vector < layout::vector_count; ++vector) {
        write_stub(memory, vector);
    }
    for (std::uint32_t vcpu = 0; vcpu < config.vcpus; ++vcpu) {
        write_tss(memory, vcpu);
    }
    write_page_tables(memory, config);
}

void write_info(const GuestMemory& memory, const Config& config, std::uint64_t program_end,
                std::uint32_t tsc_khz) {
    guest_abi::Info info{};
    info.magic = guest_abi::info_magic;
    info.vcpu_count = config.vcpus;
    info.memory_size = config.memory;
    info.heap_base = (program_end + layout::page - 1) / layout::page * layout::page;
    info.heap_size = config.memory - info.heap_base;
    info.rounds = config.rounds;
    info.param_count = static_cast<std::uint32_t>(config.params.size());
    for (std::size_t i = 0; i < config.params.size(); ++i) {
        const auto& [name, value] = config.params[i];
        std::ranges::copy(name, info.params[i].name);
        std::ranges::copy(value, info.params[i].value);
    }
    info.tsc_khz = tsc_khz;
    memory.store(layout::info, info);
}

Result<void> set_registers(const kvm::Vcpu& vcpu, std::uint32_t index, const Config& config,
                           std::uint64_t entry) {
    Result<kvm_sregs> sregs = vcpu.get_sregs();
    if (!sregs) {
        return fail(std::move(sregs.error()));
    }
    constexpr std::uint8_t code_type = 11;  // execute, read, accessed
    constexpr std::uint8_t data_type = 3;   // read, write, accessed
    const bool ring3 = config.privilege == 3;
    sregs->cs = segment(ring3 ? user_code : kernel_code, code_type, true);
    sregs->ss = segment(ring3 ? user_data : kernel_data, data_type, false);
    sregs->ds = sregs->es = sregs->fs = sregs->gs = sregs->ss;
    sregs->tr = task_segment(index);
    sregs->ldt = {};
    sregs->ldt.unusable = 1;
    sregs->gdt = {layout::gdt, sizeof gdt - 1, {}};
    sregs->idt = {layout::idt, layout::vector_count * 16 - 1, {}};
    constexpr std::uint64_t cr0_pe_mp_et_ne_wp_pg = 0x8001'0033;
    constexpr std::uint64_t cr4_pae_osfxsr_osxmmexcpt = 0x620;
    constexpr std::uint64_t efer_lme_lma = 0x500;
    sregs->cr0 = cr0_pe_mp_et_ne_wp_pg;
    sregs->cr3 = layout::pml4;
    sregs->cr4 = cr4_pae_osfxsr_osxmmexcpt;
    sregs->efer = efer_lme_lma;
    if (Result<void> set = vcpu.set_sregs(*sregs); !set) {
        return set;
    }
    kvm_fpu fpu{};
    fpu.fcw = 0x37f;     // as FNINIT: all exceptions masked, extended precision
    fpu.mxcsr = 0x1f80;  // the reset value: all exceptions masked, round to nearest
    if (Result<void> set = vcpu.set_fpu(fpu); !set) {
        return set;
    }
    kvm_regs regs{};
    regs.rip = entry;
    regs.rdi = layout::info;
    regs.rsi = index;
    regs.rsp = layout::stack_top(index);
    // Ring 3 may use the ports in two ways, since each has an implementation that does not know it:
    // IOPL 3 here (kvm_pvm runs ring 3 natively, with the host's IOPL) and the TSS's bitmap (QEMU's
    // emulated CPU refuses it in a busy TSS, which is the only kind that Intel's can run with).
    constexpr std::uint64_t always_one = 0x2;
    constexpr std::uint64_t iopl3 = 0x3000;
    regs.rflags = always_one | (ring3 ? iopl3 : 0);
    return vcpu.set_regs(regs);
}

}  // namespace dirtyring::machine
