// A `bind` for the servers in TensorFlow and in TFF's worker. They take a port and no address: gRPC
// binds them to [::]:port, or to 0.0.0.0:port where there is no IPv6, which is every address of the
// machine. Here such a bind goes to one place instead, an IP address or a Unix socket.
//
// A call of bind comes here in one of two ways:
// - In a child, by LD_PRELOAD: the loader finds this `bind` before libc's. The place is in the
//   variable TFPRIV_LISTEN, for every port.
// - In a process that runs already, by divert: what an ELF object calls from elsewhere it calls
//   through a table of pointers, of which the relocations in DT_JMPREL give place and name. The
//   pointer to bind is replaced in the objects that lie in one folder, and in no others.

#include <arpa/inet.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

union Place {
  sockaddr any;
  sockaddr_in v4;
  sockaddr_in6 v6;
  sockaddr_un local;
};

// By port, where a server that asks for every address is bound; 0 stands for all other ports. A
// place is never freed, as another thread may be reading it.
const Place* places[1 << 16];

// Calls the kernel, as libc's bind does.
int plain_bind(int socket, const void* address, socklen_t size) {
  return static_cast<int>(syscall(SYS_bind, socket, address, size));
}

// Returns the port of a bind to every address; -1 for any other bind.
int wildcard_port(const sockaddr* address, socklen_t size) {
  if (address->sa_family == AF_INET && size >= sizeof(sockaddr_in)) {
    auto* v4 = reinterpret_cast<const sockaddr_in*>(address);
    return v4->sin_addr.s_addr == htonl(INADDR_ANY) ? ntohs(v4->sin_port) : -1;
  }
  if (address->sa_family == AF_INET6 && size >= sizeof(sockaddr_in6)) {
    auto* v6 = reinterpret_cast<const sockaddr_in6*>(address);
    // ::ffff:0.0.0.0 is 0.0.0.0.
    static const uint8_t mapped[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    const bool all = IN6_IS_ADDR_UNSPECIFIED(&v6->sin6_addr) || !memcmp(&v6->sin6_addr, mapped, 16);
    return all ? ntohs(v6->sin6_port) : -1;
  }
  return -1;
}

// Puts a Unix socket in the place of a TCP socket, under the same number, and binds it.
int bind_local(int number, const sockaddr_un& address) {
  const int status = fcntl(number, F_GETFL), flags = fcntl(number, F_GETFD);
  const int local = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (status & O_NONBLOCK), 0);
  if (local < 0) return -1;
  const int moved = dup3(local, number, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
  close(local);
  return moved < 0 ? -1 : plain_bind(number, &address, sizeof address);
}

int bind_ip(int number, int family, int port, Place place) {
  if (family == AF_INET6 && place.any.sa_family == AF_INET) {
    // An IPv6 socket takes IPv4 connections at ::ffff:a.b.c.d.
    const in_addr v4 = place.v4.sin_addr;
    memset(&place, 0, sizeof place);
    place.v6.sin6_family = AF_INET6;
    place.v6.sin6_addr.s6_addr[10] = place.v6.sin6_addr.s6_addr[11] = 0xff;
    memcpy(&place.v6.sin6_addr.s6_addr[12], &v4, sizeof v4);
  }
  if (family == AF_INET && place.any.sa_family == AF_INET) {
    place.v4.sin_port = htons(port);
    return plain_bind(number, &place.v4, sizeof place.v4);
  }
  if (family == AF_INET6) {
    place.v6.sin6_port = htons(port);
    return plain_bind(number, &place.v6, sizeof place.v6);
  }
  errno = EADDRNOTAVAIL;  // IPv6 on an IPv4 socket.
  return -1;
}

// What is called instead of libc's bind. It has a name of its own: `bind`, looked up in a process
// that runs already, is libc's.
int bind_in_place(int number, const sockaddr* asked, socklen_t size) {
  const int port = wildcard_port(asked, size);
  const Place* place = nullptr;
  if (port >= 0) {
    place = __atomic_load_n(&places[port], __ATOMIC_ACQUIRE);
    if (!place) place = __atomic_load_n(&places[0], __ATOMIC_ACQUIRE);
  }
  int type = 0;
  socklen_t type_size = sizeof type;
  if (!place || getsockopt(number, SOL_SOCKET, SO_TYPE, &type, &type_size) || type != SOCK_STREAM)
    return plain_bind(number, asked, size);
  if (place->any.sa_family == AF_UNIX) return bind_local(number, place->local);
  return bind_ip(number, asked->sa_family, port, *place);
}

struct Search {
  const char* folder;
  int diverted;
};

int divert_object(dl_phdr_info* object, size_t, void* data) {
  auto* search = static_cast<Search*>(data);
  if (strncmp(object->dlpi_name, search->folder, strlen(search->folder))) return 0;
  const ElfW(Dyn)* dynamic = nullptr;
  uintptr_t protected_until = 0;
  const uintptr_t page = sysconf(_SC_PAGESIZE);
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr) & header = object->dlpi_phdr[i];
    const uintptr_t start = object->dlpi_addr + header.p_vaddr;
    if (header.p_type == PT_DYNAMIC) dynamic = reinterpret_cast<const ElfW(Dyn)*>(start);
    // The loader makes whole pages of it read-only once it has filled the tables.
    if (header.p_type == PT_GNU_RELRO) protected_until = (start + header.p_memsz) & -page;
  }
  const char* names = nullptr;
  const ElfW(Sym)* symbols = nullptr;
  const ElfW(Rela)* calls = nullptr;
  size_t bytes = 0;
  for (; dynamic && dynamic->d_tag != DT_NULL; ++dynamic) {
    const auto value = dynamic->d_un.d_ptr;
    if (dynamic->d_tag == DT_STRTAB) names = reinterpret_cast<const char*>(value);
    if (dynamic->d_tag == DT_SYMTAB) symbols = reinterpret_cast<const ElfW(Sym)*>(value);
    if (dynamic->d_tag == DT_JMPREL) calls = reinterpret_cast<const ElfW(Rela)*>(value);
    if (dynamic->d_tag == DT_PLTRELSZ) bytes = value;
  }
  if (!names || !symbols || !calls) return 0;
  for (size_t i = 0; i < bytes / sizeof *calls; ++i) {
    if (strcmp(names + symbols[ELF64_R_SYM(calls[i].r_info)].st_name, "bind")) continue;
    const uintptr_t slot = object->dlpi_addr + calls[i].r_offset;
    void* const its_page = reinterpret_cast<void*>(slot & -page);
    if (mprotect(its_page, page, PROT_READ | PROT_WRITE)) continue;
    __atomic_store_n(reinterpret_cast<void**>(slot), reinterpret_cast<void*>(&bind_in_place),
                     __ATOMIC_RELEASE);
    if (slot < protected_until) mprotect(its_page, page, PROT_READ);
    ++search->diverted;
  }
  return 0;
}

}  // namespace

EXPORTED int bind(int number, const sockaddr* asked, socklen_t size) noexcept {
  return bind_in_place(number, asked, size);
}

// From now on, a bind of `port` at every address goes to `address`: an IP address, or the path of a
// Unix socket. Port 0 means every port that has no place of its own. Returns 0, or -1 if `address`
// is neither.
EXPORTED int listen_at(int port, const char* address) {
  auto* place = static_cast<Place*>(calloc(1, sizeof(Place)));
  if (!place || port < 0 || port >= 1 << 16) return -1;
  if (inet_pton(AF_INET, address, &place->v4.sin_addr) == 1) {
    place->any.sa_family = AF_INET;
  } else if (inet_pton(AF_INET6, address, &place->v6.sin6_addr) == 1) {
    place->any.sa_family = AF_INET6;
  } else if (address[0] == '/' && strlen(address) < sizeof place->local.sun_path) {
    place->any.sa_family = AF_UNIX;
    strcpy(place->local.sun_path, address);
  } else {
    return -1;
  }
  __atomic_store_n(&places[port], place, __ATOMIC_RELEASE);
  return 0;
}

// Brings the calls of bind here that come from the loaded objects in a folder, which is to end in
// a slash. Returns how many of their tables have a pointer to bind.
EXPORTED int divert(const char* folder) {
  Search search{folder, 0};
  dl_iterate_phdr(divert_object, &search);
  return search.diverted;
}

namespace {

__attribute__((constructor)) void read_environment() {
  const char* address = getenv("TFPRIV_LISTEN");
  if (address) listen_at(0, address);
}

}  // namespace
