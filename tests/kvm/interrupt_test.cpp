// SPDX-License-Identifier: MIT
//
// Interrupt controllers in the kernel and the ways to reach them.
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>

#include "kvm_fixture.hpp"
#include "small_guest.hpp"

namespace dirtyring {
namespace {

using InterruptTest = KvmTest;

void with_irqchip(kvm::Vm& vm) {
    must(vm.create_irqchip());
}

/// An eventfd with nothing in it.
kvm::Fd make_eventfd() {
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        throw std::system_error(errno, std::generic_category(), "eventfd");
    }
    return kvm::Fd::own(fd);
}

/// Whether the input of the first PIC has an interrupt waiting.
bool waits(const kvm::Vm& vm, unsigned pin) {
    return (must(vm.get_irqchip(KVM_IRQCHIP_PIC_MASTER)).chip.pic.irr >> pin & 1) != 0;
}

TEST_F(InterruptTest, ControllersAreMadeOnceAndBeforeTheFirstVcpu) {
    kvm::Vm vm = must(system().create_vm());
    must(vm.create_irqchip());
    const Result<void> again = vm.create_irqchip();
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, EEXIST);

    kvm::Vm late = must(system().create_vm());
    const kvm::Vcpu vcpu = must(late.create_vcpu(0));
    const Result<void> after = late.create_irqchip();
    ASSERT_FALSE(after);
    EXPECT_EQ(after.error().code, EINVAL);
}

TEST_F(InterruptTest, ControllerStateIsReadAsItWasWritten) {
    const SmallGuest guest(system(), {0xf4}, with_irqchip);
    kvm_irqchip pic = must(guest.vm.get_irqchip(KVM_IRQCHIP_PIC_SLAVE));
    EXPECT_EQ(pic.chip_id, static_cast<std::uint32_t>(KVM_IRQCHIP_PIC_SLAVE));
    pic.chip.pic.irq_base = 0x70;
    pic.chip.pic.imr = 0xa5;
    must(guest.vm.set_irqchip(pic));
    const kvm_irqchip read = must(guest.vm.get_irqchip(KVM_IRQCHIP_PIC_SLAVE));
    EXPECT_EQ(read.chip.pic.irq_base, 0x70);
    EXPECT_EQ(read.chip.pic.imr, 0xa5);

    kvm_irqchip ioapic = must(guest.vm.get_irqchip(KVM_IRQCHIP_IOAPIC));
    ioapic.chip.ioapic.redirtbl[5].fields.vector = 0x41;
    must(guest.vm.set_irqchip(ioapic));
    const kvm_irqchip ioapic_read = must(guest.vm.get_irqchip(KVM_IRQCHIP_IOAPIC));
    EXPECT_EQ(ioapic_read.chip.ioapic.redirtbl[5].fields.vector, 0x41);
}

TEST_F(InterruptTest, ThereAreThreeControllers) {
    const SmallGuest guest(system(), {0xf4}, with_irqchip);
    const Result<kvm_irqchip> fourth = guest.vm.get_irqchip(3);
    ASSERT_FALSE(fourth);
    EXPECT_EQ(fourth.error().code, EINVAL);
}

TEST_F(InterruptTest, IrqLineRaisesAnInput) {
    const SmallGuest guest(system(), {0xf4}, with_irqchip);
    EXPECT_FALSE(waits(guest.vm, 3));
    must(guest.vm.irq_line(3, true));
    EXPECT_TRUE(waits(guest.vm, 3));
    EXPECT_FALSE(waits(guest.vm, 4));
    must(guest.vm.irq_line(3, false));
}

TEST_F(InterruptTest, IrqLineNeedsAController) {
    const kvm::Vm vm = must(system().create_vm());
    const Result<void> raised = vm.irq_line(3, true);
    ASSERT_FALSE(raised);
    EXPECT_EQ(raised.error().code, ENXIO);
}

TEST_F(InterruptTest, RoutingLeadsAnInputElsewhere) {
    const SmallGuest guest(system(), {0xf4}, with_irqchip);
    kvm_irq_routing_entry to_pin_6{};
    to_pin_6.gsi = 5;
    to_pin_6.type = KVM_IRQ_ROUTING_IRQCHIP;
    to_pin_6.u.irqchip.irqchip = KVM_IRQCHIP_PIC_MASTER;
    to_pin_6.u.irqchip.pin = 6;
    must(guest.vm.set_gsi_routing({&to_pin_6, 1}));
    must(guest.vm.irq_line(5, true));
    EXPECT_TRUE(waits(guest.vm, 6));
    EXPECT_FALSE(waits(guest.vm, 5));
}

TEST_F(InterruptTest, AnEventfdRaisesAnInputUntilItIsTakenOff) {
    const SmallGuest guest(system(), {0xf4}, with_irqchip);
    const kvm::Fd event = make_eventfd();
    kvm_irqfd irqfd{};
    irqfd.fd = static_cast<std::uint32_t>(event.get());
    irqfd.gsi = 4;
    must(guest.vm.irqfd(irqfd));
    const Result<void> again = guest.vm.irqfd(irqfd);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, EBUSY);

    ASSERT_EQ(eventfd_write(event.get(), 1), 0);
    // The kernel may leave it to a worker.
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!waits(guest.vm, 4) && std::chrono::steady_clock::now() < deadline) {
        std::this_thread::yield();
    }
    EXPECT_TRUE(waits(guest.vm, 4));

    irqfd.flags = KVM_IRQFD_FLAG_DEASSIGN;
    must(guest.vm.irqfd(irqfd));
    ASSERT_EQ(eventfd_write(event.get(), 1), 0);
    eventfd_t count = 0;
    EXPECT_EQ(eventfd_read(event.get(), &count), 0) << "nobody else reads it any more";
}

TEST_F(InterruptTest, AnIoeventfdTakesAPortWrite) {
    SmallGuest guest(system(), {0xba, 0x00, 0x05,  // mov dx, 0x500
                                0xee,              // out dx, al
                                0xe6, 0x11});      // out 0x11, al
    const kvm::Fd event = make_eventfd();
    kvm_ioeventfd ioeventfd{};
    ioeventfd.addr = 0x500;
    ioeventfd.len = 1;
    ioeventfd.fd = event.get();
    ioeventfd.flags = KVM_IOEVENTFD_FLAG_PIO;
    must(guest.vm.ioeventfd(ioeventfd));
    const Result<void> again = guest.vm.ioeventfd(ioeventfd);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, EEXIST);

    EXPECT_EQ(guest.run_to<kvm::IoExit>().port, 0x11) << "the write to 0x500 made an exit";
    eventfd_t count = 0;
    ASSERT_EQ(eventfd_read(event.get(), &count), 0);
    EXPECT_EQ(count, 1U);

    ioeventfd.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
    must(guest.vm.ioeventfd(ioeventfd));
    const Result<void> gone = guest.vm.ioeventfd(ioeventfd);
    ASSERT_FALSE(gone);
    EXPECT_EQ(gone.error().code, ENOENT);
}

// The local APIC's registers, by their offset in its page.
constexpr std::size_t apic_task_priority = 0x80;
constexpr std::size_t apic_spurious_vector = 0xf0;
constexpr std::size_t apic_requests = 0x200;

std::uint32_t apic_register(const kvm_lapic_state& apic, std::size_t offset) {
    std::uint32_t value = 0;
    std::memcpy(&value, apic.regs + offset, sizeof value);
    return value;
}
void set_apic_register(kvm_lapic_state& apic, std::size_t offset, std::uint32_t value) {
    std::memcpy(apic.regs + offset, &value, sizeof value);
}

TEST_F(InterruptTest, LapicIsReadAsItWasWritten) {
    const SmallGuest guest(system(), {0xf4}, with_irqchip);
    kvm_lapic_state apic = must(guest.vcpu.get_lapic());
    set_apic_register(apic, apic_task_priority, 0x30);
    must(guest.vcpu.set_lapic(apic));
    EXPECT_EQ(apic_register(must(guest.vcpu.get_lapic()), apic_task_priority), 0x30U);
}

TEST_F(InterruptTest, ThereIsNoLapicWithoutControllers) {
    const SmallGuest guest(system(), {0xf4});
    const Result<kvm_lapic_state> apic = guest.vcpu.get_lapic();
    ASSERT_FALSE(apic);
    EXPECT_EQ(apic.error().code, EINVAL);
}

TEST_F(InterruptTest, AnMsiReachesTheLapicOnceThatIsOn) {
    const SmallGuest guest(system(), {0xf4}, with_irqchip);
    kvm_msi msi{};
    msi.address_lo = 0xfee00000;  // to the APIC with id 0
    msi.data = 0x41;              // vector 0x41
    EXPECT_FALSE(must(guest.vm.signal_msi(msi))) << "the APIC is off after a reset";
    kvm_lapic_state apic = must(guest.vcpu.get_lapic());
    set_apic_register(apic, apic_spurious_vector, 0x1ff);
    must(guest.vcpu.set_lapic(apic));
    EXPECT_TRUE(must(guest.vm.signal_msi(msi)));
    const std::uint32_t requests =
        apic_register(must(guest.vcpu.get_lapic()), apic_requests + 0x41 / 32 * 0x10);
    EXPECT_EQ(requests, 1U << (0x41 % 32));
}

TEST_F(InterruptTest, AQueuedVectorReachesTheGuest) {
    SmallGuest guest(system(), {0xfb,          // sti
                                0x90,          // nop
                                0xeb, 0xfe});  // jmp $
    // The handler of vector 0x21: 0000:2000, which says OUT 0x22.
    const std::uint8_t vector[] = {0x00, 0x20, 0x00, 0x00};
    std::memcpy(guest.memory.data() + 0x21 * sizeof vector, vector, sizeof vector);
    const std::uint8_t handler[] = {0xe6, 0x22};
    std::memcpy(guest.memory.data() + 0x2000, handler, sizeof handler);
    kvm_regs regs = must(guest.vcpu.get_regs());
    regs.rflags |= 0x200;  // so that it can be injected at once
    must(guest.vcpu.set_regs(regs));
    must(guest.vcpu.interrupt(0x21));
    EXPECT_EQ(guest.run_to<kvm::IoExit>().port, 0x22);
}

TEST_F(InterruptTest, WithASplitIrqchipOneVectorAtATimeIsQueued) {
    if (!has(KVM_CAP_SPLIT_IRQCHIP)) {
        GTEST_SKIP() << "this host's KVM has no KVM_CAP_SPLIT_IRQCHIP";
    }
    const SmallGuest guest(system(), {0xf4}, [](kvm::Vm& vm) {
        kvm_enable_cap split{};
        split.cap = KVM_CAP_SPLIT_IRQCHIP;
        split.args[0] = 24;  // IOAPIC pins
        must(vm.enable_cap(split));
    });
    must(guest.vcpu.interrupt(0x21));
    const Result<void> second = guest.vcpu.interrupt(0x22);
    ASSERT_FALSE(second);
    EXPECT_EQ(second.error().code, EEXIST);
}

TEST_F(InterruptTest, VectorsAreQueuedOnlyWithoutControllersAndBelow256) {
    const SmallGuest without(system(), {0xf4});
    const Result<void> high = without.vcpu.interrupt(256);
    ASSERT_FALSE(high);
    EXPECT_EQ(high.error().code, EINVAL);
    const SmallGuest with(system(), {0xf4}, with_irqchip);
    const Result<void> queued = with.vcpu.interrupt(0x21);
    ASSERT_FALSE(queued);
    EXPECT_EQ(queued.error().code, ENXIO);
}

TEST_F(InterruptTest, AnNmiIsPending) {
    const SmallGuest guest(system(), {0xf4});
    must(guest.vcpu.nmi());
    EXPECT_EQ(must(guest.vcpu.get_vcpu_events()).nmi.pending, 1);
}

TEST_F(InterruptTest, AnSmiIsPending) {
    if (!has(KVM_CAP_X86_SMM)) {
        GTEST_SKIP() << "this host's KVM has no KVM_CAP_X86_SMM";
    }
    const SmallGuest guest(system(), {0xf4}, with_irqchip);
    must(guest.vcpu.smi());
    EXPECT_EQ(must(guest.vcpu.get_vcpu_events()).smi.pending, 1);
}

TEST_F(InterruptTest, PitIsReadAsItWasWritten) {
    kvm::Vm vm = must(system().create_vm());
    const Result<kvm_pit_state2> none = vm.get_pit2();
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code, ENXIO);
    must(vm.create_irqchip());
    must(vm.create_pit2());
    const Result<void> again = vm.create_pit2();
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().code, EEXIST);
    kvm_pit_state2 pit = must(vm.get_pit2());
    pit.channels[2].count = 0x1234;
    pit.channels[2].mode = 3;
    must(vm.set_pit2(pit));
    const kvm_pit_state2 read = must(vm.get_pit2());
    EXPECT_EQ(read.channels[2].count, 0x1234U);
    EXPECT_EQ(read.channels[2].mode, 3);
}

}  // namespace
}  // namespace dirtyring
