// SPDX-License-Identifier: MIT
//
// For the examples: a guest of 33 bytes that writes to each page from 1 MiB to 8 MiB, then halts.
#pragma once

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <cstddef>
#include <cstdint>

#include "or_exit.hpp"

namespace tiny_guest {

/// 32-bit code, entered at its first byte, which is at guest address 0.
inline constexpr std::uint8_t code[] = {
    0xbf, 0,    0,    0x10, 0,        //       mov edi, 0x100000
    0xb9, 32,   0,    0,    0,        // page: mov ecx, 32
    0x03, 0x44, 0x8f, 0xfc,           // word: add eax, [edi + ecx * 4 - 4]
    0xe2, 0xfa,                       //       loop word
    0x89, 0x07,                       //       mov [edi], eax
    0x81, 0xc7, 0,    0x10, 0,    0,  //       add edi, 4096
    0x81, 0xff, 0,    0,    0x80, 0,  //       cmp edi, 0x800000
    0x72, 0xe5,                       //       jb page
    0xf4};                            //       hlt

/// Bytes of memory that it needs, from guest address 0 on.
inline constexpr std::size_t memory = 16 << 20;

/// From the state after a reset to 32-bit mode: flat segments, no paging.
inline void enter_32_bit_mode(kvm_sregs& sregs) {
    kvm_segment segment{};
    segment.limit = 0xffffffff;
    segment.selector = 8;
    segment.type = 3;  // data, writable
    segment.present = segment.db = segment.s = segment.g = 1;
    sregs.ds = sregs.es = sregs.ss = segment;
    segment.type = 11;  // code, readable
    sregs.cs = segment;
    sregs.cr0 |= 1;
}

/// The registers to begin with: all 0 but the bit of RFLAGS that is always set.
inline kvm_regs registers() {
    kvm_regs regs{};
    regs.rflags = 2;
    return regs;
}

/// The same by bare ioctls: makes a new vCPU ready to run the code, gives its kvm_run.
inline const kvm_run* boot(int dev, int vcpu) {
    // SAFETY: each ioctl gets what linux/kvm.h says that its request takes.
    kvm_sregs sregs{};
    or_exit(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    enter_32_bit_mode(sregs);
    or_exit(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
    kvm_regs regs = registers();
    or_exit(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
    const int size = or_exit(ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0), "KVM_GET_VCPU_MMAP_SIZE");
    // SAFETY: the kernel keeps a kvm_run of that size at offset 0 of the vCPU's descriptor.
    return static_cast<const kvm_run*>(or_exit(
        mmap(nullptr, static_cast<std::size_t>(size), PROT_READ, MAP_SHARED, vcpu, 0), "mmap"));
}

}  // namespace tiny_guest
