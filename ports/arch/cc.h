/* arch/cc.h: what lwIP wants to know of compiler and platform, for every build of this tree.
 *
 * A program brings two functions: lwip_platform_assert, which must not return, and
 * lwip_platform_rand, from which lwIP takes its ports and transaction numbers; they should be hard
 * to guess. With NO_SYS=0 the platform's sys_arch.c has sys_check_core_locking. SPDX-License-Identifier: MIT-0 */
#ifndef LWIP_ARCH_CC_H
#define LWIP_ARCH_CC_H
#include <stdint.h>

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
void lwip_platform_assert(const char *what, int line, const char *file);
uint32_t lwip_platform_rand(void);
void sys_check_core_locking(void);
void *lwip_platform_malloc(size_t size); /* only in builds with MEM_CUSTOM_ALLOCATOR */
void *lwip_platform_calloc(size_t count, size_t size);
void lwip_platform_free(void *block);
#ifdef __cplusplus
}
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#undef BYTE_ORDER
#define BYTE_ORDER BIG_ENDIAN
#endif
#define LWIP_RAND()                lwip_platform_rand()
#define LWIP_PLATFORM_ASSERT(what) lwip_platform_assert(what, __LINE__, __FILE__)
/* Nothing is printed: stdio would bring a heap with it. */
#define LWIP_PLATFORM_DIAG(text) \
    do {                         \
    } while (0)
#define LWIP_NO_CTYPE_H 1
#if defined(__unix__) || defined(__APPLE__)
typedef unsigned int sys_prot_t; /* lwIP's own sys_arch for unix takes it from here */
#else
#define LWIP_NO_UNISTD_H 1
#endif
#endif
