#!/bin/sh
# A C compiler behind ccache; its own name is the compiler's, its directory the first of PATH.
#
# RPython has everything that files share in one header, which it compiles first: 50 MB of text for
# PyPy. ccache would look through that text for each file; three files took 15.4 s with it and 12.1
# without. So it takes the compiler's word for what was included (depend mode), where -MD does not
# name the compiled header; that is looked at as an extra file, whatever is in it. The header itself
# is compiled anew each time: ccache does not see a macro that was changed in it.
set -eu
PATH=${PATH#*:}
header=singleheader.h.gch
export PATH
for word in "$@"; do
  if [ "$word" = "$header" ]; then
    export CCACHE_DISABLE=1
  fi
done
if [ -e "$header" ]; then
  CCACHE_DEPEND=1
  CCACHE_EXTRAFILES=$header${CCACHE_EXTRAFILES:+:$CCACHE_EXTRAFILES}
  export CCACHE_DEPEND CCACHE_EXTRAFILES
  set -- "$@" -MD
fi
exec ccache "${0##*/}" "$@"
