# rpython-pipeline: pypy/pypy2.7-v7.3.23
class Pypy27 < Formula
  desc "Fast implementation of Python 2.7 with a tracing JIT"
  homepage "https://pypy.org"
  url "https://downloads.example/pypy/pypy2.7-v7.3.23/pypy2.7-v7.3.23-linux64.tar.gz"
  version "7.3.23"
  sha256 "a1229bcaadeaa1b2633d6e225e761cabb46fba29d1f5c6e7aa67056545aff3a4"
  license "MIT"

  livecheck do
    url "https://downloads.example/pypy/latest.json"
    strategy :json do |json|
      json.dig("interpreters", "pypy2.7", "release", "interpreter_version")
    end
  end

  depends_on :linux

  on_linux do
    on_arm do
      url "https://downloads.example/pypy/pypy2.7-v7.3.23/pypy2.7-v7.3.23-aarch64.tar.gz"
      sha256 "31a3cabaeb1ef549df19565b6229a5511af575b3c484f743e0008248d649da8f"
    end
  end

  def install
    libexec.install Dir["*"]
    bin.install_symlink libexec/"bin"/"pypy2.7"
  end

  def caveats
    <<~EOS
      What pip installs beside the interpreter goes with the next upgrade: use a virtual environment.
      The interpreter's other names, and what pip installs, are in:
        #{opt_libexec}/bin
    EOS
  end

  test do
    assert_equal "hello\n", shell_output("#{bin}/pypy2.7 -c \"print('hello')\"")
    assert_equal "PyPy\n",
                 shell_output("#{bin}/pypy2.7 -c 'import ssl, sqlite3, sys, zlib; print(sys.subversion[0])'")
  end
end
