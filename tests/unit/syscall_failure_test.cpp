// SPDX-License-Identifier: MIT
//
// Each system call of each library call is made to fail in turn: the error names the call and has
// its errno, nothing is left open or mapped, and a call that has not failed succeeds.
#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "dirtyring/harvest.hpp"
#include "dirtyring/kvm/run.hpp"
#include "dirtyring/kvm/stats.hpp"
#include "dirtyring/kvm/system.hpp"
#include "dirtyring/probe.hpp"
#include "every_call.hpp"
#include "fake_kvm.hpp"
#include "fake_stats.hpp"
#include "must.hpp"

namespace dirtyring {
namespace {

// One that no code treats as something else.
constexpr int injected = ENOSPC;

kvm::Fd descriptor_for(DescriptorKind kind) {
    switch (kind) {
        case DescriptorKind::vcpu:
            return make_vcpu_descriptor();
        case DescriptorKind::stats: {
            const std::vector<std::byte> file =
                stats_file("kvm-1", {{.name = "exits", .values = {7}}});
            return make_file(file, file.size());
        }
        default:
            return make_descriptor();
    }
}

/// Calls `make` with its first system call failing, then its second, and so on until none is left.
/// Gives how many there were.
unsigned fail_each(const std::function<std::optional<Error>()>& make) {
    for (unsigned nth = 0;; ++nth) {
        SCOPED_TRACE("system call " + std::to_string(nth));
        const std::size_t descriptors = faulty::open_descriptors();
        faulty::Faults faults;
        faults.on_other_ioctls(agreeable_kernel);
        faults.fail_any(injected, nth);
        const std::optional<Error> error = make();
        EXPECT_EQ(faulty::open_descriptors(), descriptors);
        EXPECT_EQ(faults.mappings(), 0);
        const std::optional<faulty::Call> failed = faults.failed();
        if (!failed) {
            EXPECT_FALSE(error) << error->message();
            return nth;
        }
        EXPECT_TRUE(error);
        if (error) {
            EXPECT_EQ(error->code, injected) << error->message();
            EXPECT_EQ(error->operation.find(faulty::name(*failed)), 0U) << error->message();
            EXPECT_NE(error->message().find("No space left on device"), std::string::npos);
        }
    }
}

TEST(SyscallFailure, OfEveryCall) {
    for (const LibraryCall& call : every_call()) {
        SCOPED_TRACE(call.operation);
        EXPECT_GE(fail_each([&] { return call.make(descriptor_for(call.kind)); }), 1U);
    }
}

TEST(SyscallFailure, TheFirstIsNamedInFull) {
    for (const LibraryCall& call : every_call()) {
        faulty::Faults faults;
        faults.on_other_ioctls(agreeable_kernel);
        faults.fail_any(injected);
        const std::optional<Error> error = call.make(descriptor_for(call.kind));
        ASSERT_TRUE(error) << call.operation;
        EXPECT_EQ(error->operation.find(call.operation), 0U) << error->message();
    }
}

template <typename T>
std::optional<Error> error_of(const Result<T>& result) {
    return result ? std::nullopt : std::optional(result.error());
}

TEST(SyscallFailure, OfOpening) {
    EXPECT_EQ(fail_each([] { return error_of(kvm::System::open("/dev/null")); }), 2U);
}

TEST(SyscallFailure, OfReadingStatistics) {
    const std::vector<std::byte> file = stats_file("kvm-1", {{.name = "exits", .values = {7}}});
    const kvm::Fd fd = make_file(file, file.size());
    EXPECT_EQ(fail_each([&] {
                  return error_of(kvm::Stats::adopt(fd.ref()).and_then(
                      [](kvm::Stats stats) { return stats.read().map([](auto) {}); }));
              }),
              4U)
        << "header, id, descriptors, values";
}

TEST(SyscallFailure, OfRunning) {
    faulty::Faults faults;
    const kvm::Vcpu vcpu = kvm::Vcpu::adopt(make_vcpu_descriptor(), fake_vcpu_mmap_size);
    kvm::Run run = must(kvm::Run::map(vcpu));
    faults.fail_next(faulty::Call::ioctl, EFAULT);
    const Result<kvm::Exit> exit = run.run();
    ASSERT_FALSE(exit);
    EXPECT_EQ(exit.error().code, EFAULT);
    EXPECT_EQ(exit.error().operation, "KVM_RUN");
}

TEST(SyscallFailure, OfResettingRestoresTheSignalMask) {
    const kvm::Fd vm = make_descriptor();
    sigset_t before{};
    pthread_sigmask(SIG_SETMASK, nullptr, &before);
    for (const unsigned nth : {0U, 1U}) {
        faulty::Faults faults;
        faults.on_other_ioctls(agreeable_kernel);
        faults.fail_any(injected, nth);
        const Result<std::uint32_t> reset = ResetHandle(vm).reset_once();
        ASSERT_FALSE(reset);
        EXPECT_EQ(reset.error().code, injected);
        EXPECT_EQ(reset.error().operation.find(nth == 0 ? "pthread_sigmask" : "KVM_RESET_DIRTY"),
                  0U);
        sigset_t after{};
        pthread_sigmask(SIG_SETMASK, nullptr, &after);
        for (int signal = 1; signal < SIGRTMAX; ++signal) {
            EXPECT_EQ(sigismember(&after, signal), sigismember(&before, signal)) << signal;
        }
    }
}

// Probing answers what can be answered: an error only where nothing can.
TEST(SyscallFailure, OfProbing) {
    for (unsigned nth = 0;; ++nth) {
        SCOPED_TRACE("system call " + std::to_string(nth));
        const kvm::System system = kvm::System::adopt(make_descriptor());
        const std::size_t descriptors = faulty::open_descriptors();
        faulty::Faults faults;
        faults.on_other_ioctls(agreeable_kernel);
        faults.fail_any(injected, nth);
        const Result<HostFacilities> host = probe(system);
        EXPECT_EQ(faulty::open_descriptors(), descriptors);
        const std::optional<faulty::Call> failed = faults.failed();
        if (!failed) {
            ASSERT_TRUE(host) << host.error().message();
            EXPECT_EQ(host->recommended, Tracking::ring_with_bitmap);
            break;
        }
        if (!host) {
            EXPECT_EQ(host.error().code, injected);
            EXPECT_EQ(host.error().operation.find(faulty::name(*failed)), 0U)
                << host.error().message();
        } else if (failed == faulty::Call::ioctl) {
            // The way of tracking that it was for is said not to work, with the reason.
            bool said = false;
            for (const TrackingSupport& support : host->tracking) {
                said |= support.why_not.find("No space left on device") != std::string::npos;
            }
            EXPECT_TRUE(said);
        } else {
            EXPECT_NE(failed, faulty::Call::uname);
        }
    }
}

}  // namespace
}  // namespace dirtyring
