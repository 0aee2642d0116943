# For review before it is proposed to homebrew-core, which builds pip and setuptools from source too:
# their resources are the reviewer's to add.
class Pypy311 < Formula
  desc "Fast implementation of Python 3.11 with a tracing JIT"
  homepage "https://pypy.org"
  url "https://downloads.example/pypy/pypy3.11-v7.3.23/pypy3.11-v7.3.23-src.tar.gz"
  sha256 "75196adfd0e37ed78332ca7baab5ded5566ea73f768b3f7b77d5edc8b6445b02"
  license "MIT"

  livecheck do
    url "https://downloads.example/pypy/latest.json"
    strategy :json do |json|
      json.dig("interpreters", "pypy3.11", "release", "interpreter_version")
    end
  end

  depends_on "pkgconf" => :build
  depends_on "bzip2"
  depends_on "expat"
  depends_on "gdbm"
  depends_on "libffi"
  depends_on :linux
  depends_on "ncurses"
  depends_on "openssl@3"
  depends_on "sqlite"
  depends_on "tcl-tk@8"
  depends_on "xz"
  depends_on "zlib"

  resource "bootstrap" do
    url "https://downloads.example/pypy/pypy2.7-v7.3.23/pypy2.7-v7.3.23-linux64.tar.gz"
    sha256 "a1229bcaadeaa1b2633d6e225e761cabb46fba29d1f5c6e7aa67056545aff3a4"

    on_linux do
      on_arm do
        url "https://downloads.example/pypy/pypy2.7-v7.3.23/pypy2.7-v7.3.23-aarch64.tar.gz"
        sha256 "31a3cabaeb1ef549df19565b6229a5511af575b3c484f743e0008248d649da8f"
      end
    end
  end

  def install
    resource("bootstrap").stage buildpath/"bootstrap"
    translator = buildpath/"bootstrap/bin"/"pypy"
    ENV["PYPY_USESSION_DIR"] = buildpath

    cd "pypy/goal" do
      system translator, buildpath/"rpython/bin/rpython",
             "--batch",
             "--gc=incminimark",
             "--opt=jit",
             "--cc=#{ENV.cc}",
             "--make-jobs=#{ENV.make_jobs}",
             "targetpypystandalone.py"
    end

    system translator, "pypy/tool/release/package.py",
           "--archive-name=archive",
           "--targetdir=#{buildpath}",
           "--no-embedded-dependencies",
           "--no-keep-debug",
           "--no-make-portable"
    libexec.mkpath
    system "tar", "-C", libexec, "--strip-components=1", "-xf", buildpath/"archive.tar.bz2"
    bin.install_symlink libexec/"bin"/"pypy3.11"
  end

  test do
    assert_equal "hello\n", shell_output("#{bin}/pypy3.11 -c \"print('hello')\"")
    assert_equal "pypy\n",
                 shell_output("#{bin}/pypy3.11 -c 'import ssl, sqlite3, sys, zlib; print(sys.implementation.name)'")
  end
end
