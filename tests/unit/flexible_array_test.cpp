// SPDX-License-Identifier: MIT
//
// Calls whose argument is as long as its header says.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "dirtyring/kvm/system.hpp"
#include "fake_kvm.hpp"
#include "must.hpp"

namespace dirtyring {
namespace {

// SAFETY, for all of this file: each handler is given the block that belongs to its request: a
// header, and as many elements behind it as the header says.

template <typename Header>
Header& header(void* block) {
    return *static_cast<Header*>(block);
}
template <typename Element, typename Header>
Element* elements(void* block) {
    return reinterpret_cast<Element*>(static_cast<std::byte*>(block) + sizeof(Header));
}

class FlexibleArray : public ::testing::Test {
  protected:
    faulty::Faults faults_;
    kvm::System system_ = kvm::System::adopt(make_descriptor());
    kvm::Vcpu vcpu_ = kvm::Vcpu::adopt(make_descriptor());
};

TEST_F(FlexibleArray, TooLittleRoomIsAskedForAgainWithTheCountReported) {
    faults_.on_ioctl(kvm::abi::get_msr_index_list, [](int, void* block) {
        auto& count = header<kvm::abi::MsrListHeader>(block).count;
        if (count < 3) {
            count = 3;
            return -E2BIG;
        }
        for (std::uint32_t i = 0; i < 3; ++i) {
            elements<std::uint32_t, kvm::abi::MsrListHeader>(block)[i] = 100 + i;
        }
        return 0;
    });
    EXPECT_EQ(must(system_.get_msr_index_list()), (std::vector<std::uint32_t>{100, 101, 102}));
    EXPECT_EQ(faults_.calls(faulty::Call::ioctl), 2U);
}

TEST_F(FlexibleArray, AKernelThatWantsEverMoreIsNotAskedForEver) {
    faults_.on_ioctl(kvm::abi::get_msr_index_list, [](int, void* block) {
        header<kvm::abi::MsrListHeader>(block).count += 10;
        return -E2BIG;
    });
    const auto list = system_.get_msr_index_list();
    ASSERT_FALSE(list);
    EXPECT_EQ(list.error().code, E2BIG);
    EXPECT_EQ(faults_.calls(faulty::Call::ioctl), 2U);
}

TEST_F(FlexibleArray, TooLittleRoomWithoutACountIsAnError) {
    faults_.on_ioctl(kvm::abi::get_supported_cpuid, -E2BIG);
    const auto cpuid = system_.get_supported_cpuid();
    ASSERT_FALSE(cpuid);
    EXPECT_EQ(cpuid.error().code, E2BIG);
    EXPECT_EQ(cpuid.error().operation, "KVM_GET_SUPPORTED_CPUID");
    EXPECT_EQ(faults_.calls(faulty::Call::ioctl), 1U);
}

TEST_F(FlexibleArray, ACountPastTheRoomGivesWhatTheRoomHolds) {
    faults_.on_ioctl(kvm::abi::get_supported_cpuid, [](int, void* block) {
        header<kvm::abi::CpuidHeader>(block).count = 1'000'000;
        return 0;
    });
    EXPECT_EQ(must(system_.get_supported_cpuid()).size(), kvm::abi::max_cpuid_entries);
}

// Linux before 6.5 leaves the count as the caller gave it.
TEST_F(FlexibleArray, CpuidEntriesThatTheKernelDidNotWriteAreLeftOut) {
    faults_.on_ioctl(kvm::abi::get_cpuid2, [](int, void* block) {
        auto* entries = elements<kvm_cpuid_entry2, kvm::abi::CpuidHeader>(block);
        entries[0] = {};
        entries[1] = {};
        entries[1].function = 1;
        entries[1].eax = 0x800f12;
        return 0;
    });
    const std::vector<kvm_cpuid_entry2> cpuid = must(vcpu_.get_cpuid2());
    ASSERT_EQ(cpuid.size(), 2U);
    EXPECT_EQ(cpuid[0].function, 0U);
    EXPECT_EQ(cpuid[1].eax, 0x800f12U);
}

TEST_F(FlexibleArray, TheKernelSeesWhatIsToBeSet) {
    std::vector<kvm_cpuid_entry2> seen;
    faults_.on_ioctl(kvm::abi::set_cpuid2, [&](int, void* block) {
        const auto* entries = elements<kvm_cpuid_entry2, kvm::abi::CpuidHeader>(block);
        seen.assign(entries, entries + header<kvm::abi::CpuidHeader>(block).count);
        return 0;
    });
    std::vector<kvm_cpuid_entry2> cpuid(3);
    cpuid[2].function = 0x80000001;
    must(vcpu_.set_cpuid2(cpuid));
    ASSERT_EQ(seen.size(), 3U);
    EXPECT_EQ(seen[2].function, 0x80000001U);
}

TEST_F(FlexibleArray, TheSignalMaskIsTheKernelsEightBytes) {
    std::uint64_t seen = 0;
    faults_.on_ioctl(kvm::abi::set_signal_mask, [&](int, void* block) {
        EXPECT_EQ(header<kvm::abi::SignalMaskHeader>(block).length, 8U);
        std::memcpy(&seen, elements<std::byte, kvm::abi::SignalMaskHeader>(block), sizeof seen);
        return 0;
    });
    sigset_t mask{};
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    must(vcpu_.set_signal_mask(mask));
    EXPECT_EQ(seen, std::uint64_t{1} << (SIGUSR1 - 1));
}

TEST_F(FlexibleArray, NoSignalMaskIsANullPointer) {
    faults_.on_ioctl(kvm::abi::set_signal_mask, [](int, void* block) {
        EXPECT_EQ(block, nullptr);
        return 0;
    });
    must(vcpu_.clear_signal_mask());
}

TEST_F(FlexibleArray, AnXsaveAreaIsAsLargeAsTheVmSays) {
    constexpr std::size_t bytes = 11'008;  // with AMX
    const kvm::Vcpu vcpu = kvm::Vcpu::adopt(make_descriptor(), 0, 0, bytes);
    faults_.on_ioctl(kvm::abi::get_xsave2, [](int, void* block) {
        std::memset(block, 0x11, bytes);
        return 0;
    });
    const std::vector<std::byte> area = must(vcpu.get_xsave());
    EXPECT_EQ(area, std::vector<std::byte>(bytes, std::byte{0x11}));

    bool whole = false;
    faults_.on_ioctl(kvm::abi::set_xsave, [&](int, void* block) {
        whole = std::memcmp(block, area.data(), bytes) == 0;
        return 0;
    });
    must(vcpu.set_xsave(area));
    EXPECT_TRUE(whole);

    const unsigned calls = faults_.calls(faulty::Call::ioctl);
    EXPECT_FALSE(vcpu.set_xsave(std::span(area).first(4096)));
    EXPECT_EQ(faults_.calls(faulty::Call::ioctl), calls) << "the kernel would read past its end";
}

TEST_F(FlexibleArray, NestedStateIsAskedForAgainWithTheSizeReported) {
    faults_.on_ioctl(kvm::abi::get_nested_state, [](int, void* block) {
        auto& size = header<kvm::abi::NestedStateHeader>(block).size;
        if (size < 4224) {
            size = 4224;
            return -E2BIG;
        }
        size = 4200;
        elements<std::byte, kvm::abi::NestedStateHeader>(block)[4000] = std::byte{5};
        return 0;
    });
    const std::vector<std::byte> state = must(vcpu_.get_nested_state());
    ASSERT_EQ(state.size(), 4200U);
    EXPECT_EQ(state[128 + 4000], std::byte{5});

    faults_.on_ioctl(kvm::abi::set_nested_state, [](int, void* block) {
        EXPECT_EQ(header<kvm::abi::NestedStateHeader>(block).size, 4200U);
        return elements<std::byte, kvm::abi::NestedStateHeader>(block)[4000] == std::byte{5}
                   ? 0
                   : -EINVAL;
    });
    must(vcpu_.set_nested_state(state));
}

}  // namespace
}  // namespace dirtyring
